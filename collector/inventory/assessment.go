package inventory

// An Assessment is an inventory and what it adds up to.
// A part is unknown as soon as one of the things it is made from is.
type Assessment struct {
	Inventory
	ImageCount     Optional[ImageCount]
	ImageUse       Optional[map[Use]int]
	ContainerCount Optional[map[State]int]
	StoppedCount   Optional[map[StoppedFor]int]
	Unexamined     Optional[int] // images that were not yet looked at
	LayerCount     Optional[int]
	VolumeCount    Optional[map[bool]int] // by whether a container has it
	CacheCount     Optional[map[bool]int] // by whether a build uses it
	DiskUsage      map[Resource]int64
	Reclaimable    map[Command]Reclaimable
	Repositories   Optional[[]Repository] // see LargestRepositories
}

// Assess adds up what an inventory holds, but for its repositories.
func Assess(inventory Inventory) Assessment {
	a := Assessment{Inventory: inventory}
	records, imagesKnown := inventory.Images.Get()
	images := distinct(records)
	containers, containersKnown := inventory.Containers.Get()
	if imagesKnown {
		a.ImageCount = Known(countImages(images))
	}
	if containersKnown {
		a.ContainerCount = Known(CountContainers(containers))
		a.StoppedCount = CountStopped(containers, inventory.At)
	}
	if imagesKnown && containersKnown {
		a.ImageUse = Known(countUse(images, containers))
	}
	if layers := inventory.Layers; imagesKnown && layers != nil {
		a.LayerCount = layers.Count(images)
		a.Unexamined = Known(layers.unexamined(images))
	}
	if volumes, known := inventory.Volumes.Get(); known && containersKnown {
		a.VolumeCount = Known(CountVolumes(volumes, containers))
	}
	if cache, known := inventory.Cache.Get(); known {
		a.CacheCount = Known(CountCache(cache))
	}
	a.DiskUsage = DiskUsage(inventory)
	a.Reclaimable = Reclaim(inventory)
	return a
}

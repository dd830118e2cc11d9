package inventory

// An Assessment is an inventory and what it adds up to.
// A part is unknown as soon as one of the things it is made from is.
type Assessment struct {
	Inventory
	ImageCount     Optional[ImageCount]
	ImageUse       Optional[map[Use]int]
	ContainerCount Optional[map[State]int]
	StoppedCount   Optional[map[StoppedFor]int]
}

// Assess adds up what an inventory holds.
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
	return a
}

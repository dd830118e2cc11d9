package inventory

// An Assessment is an inventory and what it adds up to.
// A part is unknown as soon as one of the things it is made from is.
type Assessment struct {
	Inventory
	ImageCount     Optional[ImageCount]
	ImageUse       Optional[map[Use]int]
	ContainerCount Optional[map[State]int]
}

// Assess adds up what an inventory holds.
func Assess(inventory Inventory) Assessment {
	a := Assessment{Inventory: inventory}
	images, imagesKnown := inventory.Images.Get()
	containers, containersKnown := inventory.Containers.Get()
	if imagesKnown {
		a.ImageCount = Known(CountImages(images))
	}
	if containersKnown {
		a.ContainerCount = Known(CountContainers(containers))
	}
	if imagesKnown && containersKnown {
		a.ImageUse = Known(CountUse(images, containers))
	}
	return a
}

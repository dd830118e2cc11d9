package prune

import (
	"slices"

	"docker_buildup_exporter/collector/model"
)

// withoutReclaimable returns the summary without what cleanup commands free.
func (sum Summary) withoutReclaimable() Summary {
	sum.Reclaimable = nil
	repositories, known := sum.Repositories.Get()
	if !known {
		return sum
	}
	repositories = slices.Clone(repositories)
	for i := range repositories {
		repositories[i].Reclaimable = model.Optional[Reclaimable]{}
	}
	sum.Repositories = model.Known(repositories)
	return sum
}

package prune

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math"
	"slices"

	"docker_buildup_exporter/collector/model"
)

// chainIDs returns the chain ID of each layer (OCI image specification).
func (t *layerTree) chainIDs() []string {
	chains := make([]string, len(t.layers))
	for at, l := range t.layers {
		chains[at] = t.diffs[l.diff]
		if l.parent != none {
			chains[at] = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(chains[l.parent]+" "+chains[at])))
		}
	}
	return chains
}

// isOf reports whether a layer store is that of the listed objects: it has all layers of the images,
// each on the right one, and the writable layer of each container.
func (h *host) isOf(store *model.LayerStore, chains []string) bool {
	for at, l := range h.tree.layers {
		stored, exists := store.Layers[chains[at]]
		if h.isListed[at] && (!exists || l.parent == none && stored.Parent != "" || l.parent != none && stored.Parent != chains[l.parent]) {
			return false
		}
	}
	for _, c := range h.containers {
		chain, exists := store.Mounts[c.ID]
		if _, hasLayer := store.Layers[chain]; exists && chain != "" && !hasLayer {
			return false
		}
		if isPartlyRemoved := c.State == model.Dead || c.State == model.Removing; !exists && !isPartlyRemoved {
			return false
		}
	}
	for _, layer := range store.Layers {
		if _, exists := store.Layers[layer.Parent]; !exists && layer.Parent != "" {
			return false
		}
	}
	return true
}

// newDiskGraph returns the graph of what a graph driver has on the disk. chains are the chain IDs of the
// layers of inspected images.
func newDiskGraph(h *host, chains []string) *graph {
	for at := range h.tree.layers {
		if stored, exists := h.store.Layers[chains[at]]; exists {
			l := &h.tree.layers[at]
			l.size, l.isSized, l.isExact = stored.Size, true, true
		}
	}
	d := &diskGraph{host: h, graph: newObjectGraph(h), pieces: make(map[string]int32, len(h.store.Layers))}
	for at, chain := range chains {
		d.pieces[chain] = int32(at)
	}
	others := make([]string, 0, len(h.store.Layers))
	for _, chain := range slices.Sorted(maps.Keys(h.store.Layers)) {
		if _, exists := d.pieces[chain]; !exists {
			size := h.store.Layers[chain].Size
			d.pieces[chain] = d.graph.add(piece{parent: none, likely: size, certain: size, isShared: true})
			others = append(others, chain)
		}
	}
	for _, chain := range others {
		if parent := h.store.Layers[chain].Parent; parent != "" {
			d.graph.pieces[d.pieces[chain]].parent = d.pieces[parent]
		}
	}
	d.addMounts()
	for i := range h.cache {
		d.addRecord(i)
	}
	return d.graph
}

// diskGraph adds to a graph what containers and records of the build cache hold.
type diskGraph struct {
	*host
	graph  *graph
	pieces map[string]int32 // by chain ID
}

// addMounts adds the layers below writable layers. One that is no container's is that of an image that a
// container mounts, or of a running build, or was left behind: no command removes it.
func (d *diskGraph) addMounts() {
	isContainer := make(map[string]bool, len(d.containers))
	var mounting []int // containers that mount images
	for i, c := range d.containers {
		isContainer[c.ID] = true
		holder := &d.graph.holders[d.containerHolder(i)]
		if chain := d.store.Mounts[c.ID]; chain != "" {
			holder.pieces = append(holder.pieces, d.layer(chain)...)
		}
		if len(c.MountedImages) > 0 {
			mounting = append(mounting, i)
			d.graph.pieces[holder.pieces[0]].isOpen = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(d.store.Mounts)) {
		if isContainer[id] {
			continue
		}
		pieces := d.layer(d.store.Mounts[id])
		for _, i := range mounting {
			holder := &d.graph.holders[d.containerHolder(i)]
			holder.pieces = append(holder.pieces, pieces...)
		}
		if len(mounting) > 0 { // perhaps
			d.graph.may[len(d.graph.holders)] = pieces
			d.graph.holders = append(d.graph.holders, holder{})
		} else {
			d.graph.holders = append(d.graph.holders, holder{pieces: pieces})
		}
	}
}

// layer returns the piece of a layer, or nothing if the layer is gone.
func (d *diskGraph) layer(chain string) []int32 {
	if at, exists := d.pieces[chain]; exists {
		return []int32{at}
	}
	return nil
}

// addRecord adds what a record of the build cache holds: a layer, or files of its own. A record that is
// newer than the layer store may hold any layer.
func (d *diskGraph) addRecord(i int) {
	record, holder := &d.cache[i], &d.graph.holders[d.recordHolder(i)]
	stored, exists := d.store.Records[record.ID]
	switch {
	case !exists:
		at := d.graph.addOwn(record.Size)
		d.graph.pieces[at].certain, d.graph.pieces[at].isOpen = 0, true
		holder.pieces, holder.unknown = []int32{at}, math.MaxInt64
	case stored.ChainID != "":
		holder.pieces = d.layer(stored.ChainID)
		if len(holder.pieces) > 0 {
			d.matches.likely[i] = holder.pieces[0]
		}
		if size, _ := record.Size.Get(); record.ExcludesSnapshot && size > 0 { // a blob
			holder.pieces = append(holder.pieces, d.graph.addOwn(record.Size))
		}
	default:
		size := stored.Size
		if !size.IsKnown() {
			size = record.Size
		}
		at := d.graph.addOwn(size)
		used, _ := record.LastUsedAt.Get()
		if isRewritten := !stored.MeasuredAt.IsZero() && (record.InUse || used.After(stored.MeasuredAt)); isRewritten || !stored.Size.IsKnown() {
			d.graph.pieces[at].certain, d.graph.pieces[at].isOpen = 0, true
		}
		holder.pieces = []int32{at}
	}
}

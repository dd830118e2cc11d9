package containerd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"

	content "github.com/containerd/containerd/api/services/content/v1"
	images "github.com/containerd/containerd/api/services/images/v1"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
)

// document is an image index, a manifest or a configuration, as far as it is used.
type document struct {
	Manifests []descriptor `json:"manifests"`
	Config    *descriptor  `json:"config"`
	Layers    []descriptor `json:"layers"`

	Created *time.Time `json:"created"`
	RootFS  struct {
		DiffIDs []digest.Digest `json:"diff_ids"`
	} `json:"rootfs"`
	platform
}

// descriptor is an ocispec.Descriptor, as far as it is used: documents are kept, and there are many.
type descriptor struct {
	MediaType   mediaType         `json:"mediaType"`
	Digest      digest.Digest     `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    *platform         `json:"platform"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// mediaType is whether a media type is that of a layer of an image.
type mediaType bool

// UnmarshalText implements encoding.TextUnmarshaler. It returns no error.
func (isLayer *mediaType) UnmarshalText(text []byte) error {
	*isLayer = mediaType(bytes.HasPrefix(text, []byte("application/vnd.oci.image.layer.")) || bytes.HasPrefix(text, []byte("application/vnd.docker.image.rootfs.")))
	return nil
}

// maxDocument bounds the size of a document in bytes, as containerd does for what it pulls.
const maxDocument = 8 << 20

// document returns a document, or nil if the store has none that can be read.
func (r *reading) document(ctx context.Context, digest digest.Digest) (*document, error) {
	if size, exists := r.blobs[digest.String()].Size.Get(); !exists || size > maxDocument {
		return nil, nil
	}
	if known, isCached := r.cache.documents[digest.String()]; isCached {
		return known, nil
	}
	stream, err := r.content.Read(ctx, &content.ReadContentRequest{Digest: digest.String()})
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if text.Write(response.GetData()); text.Len() > maxDocument {
			return nil, nil
		}
	}
	d := new(document)
	if json.Unmarshal(text.Bytes(), d) != nil {
		d = nil
	}
	if r.cache.documents == nil {
		r.cache.documents = make(map[string]*document)
	}
	r.cache.documents[digest.String()] = d
	return d, nil
}

// fillImages adds the images as the engine lists them (moby: daemon/containerd.ImageService.Images).
func (r *reading) fillImages(ctx context.Context, store *Store) error {
	names := make(map[string][]*images.Image)
	for _, name := range r.names {
		target := name.GetTarget().GetDigest()
		names[target] = append(names[target], name)
	}
	store.Contents, store.Layers = make(map[string]model.Content, len(names)), make(map[string][][]string, len(names))
	for id, names := range names {
		w := imageWalk{reading: r}
		if err := w.visit(ctx, descriptor{Digest: digest.Digest(id)}); err != nil {
			return err
		}
		store.Layers[id] = w.layers
		image := r.image(id, names)
		image.Size, image.Sizes = model.Known(w.size), &model.StoreSizes{SeveralPlatforms: w.platforms > 1}
		if image.Created = model.Known[int64](0); w.best != nil && w.best.Created != nil {
			image.Created = model.Known(w.best.Created.Unix())
		}
		if w.manifests == 0 {
			image.Parent = ""
		}
		if w.best != nil {
			content := r.contentOf(w.best)
			var unpacked int64
			for _, step := range content.History {
				unpacked += step.Size
			}
			image.Sizes.Unpacked = model.Known(unpacked)
			store.Contents[id] = content
		}
		store.ImageList = append(store.ImageList, image)
	}
	slices.SortFunc(store.ImageList, func(a, b model.Image) int { return strings.Compare(a.ID, b.ID) })
	for digest := range r.cache.documents {
		if _, exists := r.blobs[digest]; !exists {
			delete(r.cache.documents, digest)
		}
	}
	return nil
}

// image returns what names report about an image.
func (r *reading) image(id string, names []*images.Image) model.Image {
	image := model.Image{ID: id, HasDigest: model.Known(false)}
	last := names[0]
	for _, name := range names {
		if strings.HasPrefix(name.GetName(), "moby-dangling@") {
			continue
		}
		last = name
		named, err := reference.ParseNormalizedNamed(name.GetName())
		if err != nil {
			continue
		}
		if familiar := reference.FamiliarString(named); strings.Contains(familiar, "@") {
			image.HasDigest = model.Known(true)
		} else {
			image.Tags = append(image.Tags, familiar)
		}
		if repository := reference.FamiliarName(named); r.repositories && !slices.Contains(image.Repositories, repository) {
			image.Repositories = append(image.Repositories, repository)
		}
	}
	image.Parent = last.GetLabels()["org.mobyproject.image.parent"]
	return image
}

// contentOf returns the layers of a configuration, with the sizes of their snapshots.
func (r *reading) contentOf(config *document) (c model.Content) {
	for i, diff := range config.RootFS.DiffIDs {
		c.DiffIDs = append(c.DiffIDs, diff.String())
		chain := identity.ChainID(slices.Clone(config.RootFS.DiffIDs[:i+1]))
		c.History = append(c.History, model.Step{Size: r.cache.sizes[chain.String()].bytes})
	}
	return c
}

type imageWalk struct {
	*reading
	size      int64 // as the engine lists it
	layers    [][]string
	manifests int
	platforms int       // that are present
	best      *document // the configuration for this machine, else the first one
	bestRank  int
	depth     int
}

// maxIndexes bounds how deep indexes are in each other.
const maxIndexes = 4

// visit visits an index or a manifest. The size of an image is that of its manifests that are
// present, without indexes (moby: daemon/containerd.ImageService.multiPlatformSummary).
func (w *imageWalk) visit(ctx context.Context, target descriptor) error {
	d, err := w.document(ctx, target.Digest)
	if err = cmp.Or(err, ctx.Err()); err != nil || w.depth > maxIndexes { // what is cached needs no call
		return err
	}
	if d != nil && d.Config == nil {
		w.depth++
		defer func() { w.depth-- }()
		for _, manifest := range d.Manifests {
			if err := w.visit(ctx, manifest); err != nil {
				return err
			}
		}
		return nil
	}
	w.manifests++
	if d == nil {
		w.consider(target, nil)
		return nil
	}
	manifest, _ := w.blobs[target.Digest.String()].Size.Get()
	w.size += manifest
	var layers []string
	for _, layer := range d.Layers {
		layers = append(layers, layer.Digest.String())
	}
	for _, blob := range append(d.Layers, *d.Config) {
		if _, exists := w.blobs[blob.Digest.String()]; exists {
			w.size += blob.Size
		}
	}
	w.layers = append(w.layers, layers)
	if isAttestation(target, d) {
		return nil
	}
	config, err := w.document(ctx, d.Config.Digest)
	if err != nil {
		return err
	}
	if config != nil {
		w.platforms++
		w.size += w.unpacked(config)
	}
	w.consider(target, config)
	return nil
}

// consider takes a manifest as the best one if it fits this machine better than those before.
func (w *imageWalk) consider(target descriptor, config *document) {
	p := target.Platform
	if p == nil && config != nil {
		p = &config.platform
	}
	rank := 1
	if p != nil && p.OS == "linux" && p.Architecture == runtime.GOARCH {
		rank = 2
	}
	if rank > w.bestRank && !isAttestation(target, nil) {
		w.best, w.bestRank = config, rank
	}
}

// isAttestation reports whether a manifest is that of no image (moby:
// daemon/containerd.ImageManifest.IsPseudoImage).
func isAttestation(target descriptor, manifest *document) bool {
	isLayer := func(layer descriptor) bool { return bool(layer.MediaType) }
	p := target.Platform
	return target.Annotations["vnd.docker.reference.type"] != "" || p != nil && p.OS == "unknown" && p.Architecture == "unknown" ||
		manifest != nil && len(manifest.Layers) > 0 && !slices.ContainsFunc(manifest.Layers, isLayer)
}

// unpacked returns the size of the snapshots of a configuration, or 0 if the top one is missing.
func (w *imageWalk) unpacked(config *document) (bytes int64) {
	if len(config.RootFS.DiffIDs) == 0 {
		return 0
	}
	name := identity.ChainID(slices.Clone(config.RootFS.DiffIDs)).String()
	for {
		snapshot, exists := w.snapshots[name]
		if !exists {
			return bytes
		}
		bytes += w.cache.sizes[name].bytes
		name = snapshot.parent
	}
}

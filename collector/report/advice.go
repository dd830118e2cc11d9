package report

import (
	"math"
	"slices"
	"strings"
	"time"

	"docker_buildup_exporter/collector/model"
	"docker_buildup_exporter/collector/prune"
)

// Advice is what to run on a file system that has too little space.
type Advice struct {
	Commands  []prune.Command         `json:"commands"` // in this order; empty: no command helps
	Frees     int64                   `json:"frees_bytes"`
	IsExact   bool                    `json:"exact"`
	FreeShare model.Optional[float64] `json:"free_share"` // afterwards
	IsEnough  bool                    `json:"is_enough"`  // afterwards, prune.EnoughFree or the threshold of a warning is free
}

// String returns the advice as a sentence without a full stop.
func (a Advice) String() string {
	if len(a.Commands) == 0 {
		return "No cleanup command frees anything"
	}
	return "Run " + a.CommandText() + ": " + a.Outcome()
}

// Outcome returns what the commands free.
func (a Advice) Outcome() string {
	text := "frees " + formatBytes(a.Frees)
	if !a.IsExact {
		text = "frees about " + formatBytes(a.Frees)
	}
	text += ", then " + formatShare(a.FreeShare) + " is free"
	if !a.IsEnough {
		text += ", which is not enough"
	}
	return text
}

// CommandText returns the commands as typed in a shell.
func (a Advice) CommandText() string {
	var names []string
	for _, command := range a.Commands {
		names = append(names, string(command))
	}
	return strings.Join(names, " && ")
}

// adviceSteps returns the commands that advice may consist of, the safest first. The commands of
// one step free different bytes, so their estimates add up.
func adviceSteps() (steps [][]prune.Command) {
	for _, command := range prune.SafestFirst() {
		steps = append(steps, []prune.Command{command})
		if command == prune.ContainerPruneUntil || command == prune.ContainerPrune {
			steps = append(steps, []prune.Command{command, prune.BuilderPrune})
		}
	}
	return steps
}

// advise returns the safest commands after which this share of a file system is free. If there are none,
// it returns those that free most. It is nil if that is unknown, because what the last step frees, which
// includes what all others do, is unknown.
func advise(fs model.Filesystem, enough float64, reclaimable map[prune.Command]prune.Reclaimable) *Advice {
	var best Advice
	for _, step := range adviceSteps() {
		frees, isExact := int64(0), true
		for _, command := range step {
			r, known := reclaimable[command]
			if !known || r.Estimate == 0 { // the step is no better than one without the command
				frees = 0
				break
			}
			frees, isExact = frees+r.Estimate, isExact && r.Exact
		}
		if frees <= best.Frees {
			continue
		}
		after := share(min(fs.Avail+frees, fs.Size), fs.Size)
		value, _ := after.Get()
		best = Advice{Commands: step, Frees: frees, IsExact: isExact, FreeShare: after, IsEnough: value >= enough}
		if best.IsEnough {
			return &best
		}
	}
	if _, known := reclaimable[prune.SystemPruneAll]; !known {
		return nil
	}
	return &best
}

// cleanedDisk returns the path of the file system on which commands free bytes of containers,
// images and the build cache, or "" if that is unknown, or if logs that go with containers are elsewhere and
// make a difference.
func cleanedDisk(s prune.Summary) string {
	engine, known := s.Engine.Get()
	if !known || len(s.Unmeasured) > 0 {
		return ""
	}
	path, logPath := layerDisk(s.Filesystems, engine), engine.RootDir
	if containers := engine.RootDir + "/containers"; slices.ContainsFunc(s.Filesystems, func(fs model.Filesystem) bool { return fs.Path == containers }) {
		logPath = containers
	}
	for _, fs := range s.Filesystems {
		if fs.Path == path && path != logPath && len(s.Filesystems) > 1 && s.DiskUsage[model.ContainerLogs] > fs.Size/100 {
			return ""
		}
	}
	return path
}

// layerDisk returns the path of the file system that holds the layers of an engine, or "".
func layerDisk(all []model.Filesystem, engine model.Engine) string {
	best := ""
	for _, fs := range all {
		isDockers := fs.Path == engine.RootDir || strings.HasPrefix(fs.Path, engine.RootDir+"/")
		switch {
		case len(all) == 1:
			return fs.Path
		case engine.ImageStore == model.Containerd && !isDockers, engine.ImageStore == model.GraphDriver && fs.Path == engine.RootDir+"/"+engine.StorageDriver:
			return fs.Path
		case fs.Path == engine.RootDir:
			best = fs.Path
		}
	}
	return best
}

// Bounds of a trend.
const (
	trendPeriod     = 6 * time.Hour
	minTrendSpan    = 30 * time.Minute
	minTrendSamples = 4 // two are always on a line
	maxTimeToFull   = 30 * 24 * time.Hour
)

// timeToFull returns when nothing is left of a file system if it goes on like in the last hours
// (least squares). It is unknown if free space does not decrease steadily: if the line explains
// less than half of the variance.
func timeToFull(samples []model.Sample, now time.Time) model.Optional[time.Duration] {
	first := slices.IndexFunc(samples, func(s model.Sample) bool { return now.Sub(s.At) <= trendPeriod })
	if first < 0 || len(samples)-first < minTrendSamples || now.Sub(samples[first].At) < minTrendSpan {
		return model.Optional[time.Duration]{}
	}
	samples = samples[first:]
	last := samples[len(samples)-1].Bytes
	var n, x, y, xx, xy, yy float64
	for _, s := range samples {
		t, v := s.At.Sub(now).Seconds(), float64(s.Bytes-last)
		n, x, y, xx, xy, yy = n+1, x+t, y+v, xx+t*t, xy+t*v, yy+v*v
	}
	cov, varX, varY := n*xy-x*y, n*xx-x*x, n*yy-y*y
	if cov >= 0 || varX <= 0 || varY <= 0 || cov*cov < varX*varY/2 {
		return model.Optional[time.Duration]{}
	}
	seconds := -float64(last) * varX / cov
	if math.IsNaN(seconds) || seconds > maxTimeToFull.Seconds() {
		return model.Optional[time.Duration]{}
	}
	return model.Known(time.Duration(seconds * float64(time.Second)))
}

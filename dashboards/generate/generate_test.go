package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"docker_buildup_exporter/alerts"
)

//lint:file-ignore SA1019 Grafana before 12 reads only the classic model, which the SDK deprecates.

func TestFilesAreUpToDate(t *testing.T) {
	files := rendered(t, alerts.Defaults())
	var want []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join("..", name)
		want = append(want, path)
		committed, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, files[name]) {
			t.Errorf(`%s is out of date: run "make update"`, name)
		}
	}
	if found, err := filepath.Glob("../*.json"); err != nil || !slices.Equal(found, want) {
		t.Errorf("found %q (%v), want %q", found, err, want)
	}
}

func TestRenderIsDeterministic(t *testing.T) {
	first := rendered(t, alerts.Defaults())
	for range 10 {
		if !maps.EqualFunc(rendered(t, alerts.Defaults()), first, bytes.Equal) {
			t.Fatal("two renderings differ")
		}
	}
}

// Grafana ignores fields that it does not know, so a misspelled one has no effect there.
func TestFilesHaveOnlyFieldsThatGrafanaKnows(t *testing.T) {
	for name, content := range rendered(t, alerts.Defaults()) {
		if err := decodeStrictly(content); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The strict decoder must refuse an unknown field at every level, also where the type
// depends on the plugin of a panel or a data source.
func TestStrictDecoderRefusesUnknownFields(t *testing.T) {
	content := rendered(t, alerts.Defaults())[fleetUID+".json"]
	for _, path := range [][]any{
		{},
		{"links", 0},
		{"annotations", "list", 0},
		{"templating", "list", 1},
		{"panels", 0},
		{"panels", 1},
		{"panels", 1, "options"},
		{"panels", 1, "targets", 0},
		{"panels", 1, "fieldConfig", "defaults"},
		{"panels", 1, "fieldConfig", "defaults", "thresholds", "steps", 0},
		{"panels", 9, "fieldConfig", "defaults", "custom"},
		{"panels", 5, "transformations", 0},
		{"panels", 7, "fieldConfig", "overrides", 0, "properties", 2, "value", 0},          // a link
		{"panels", 7, "fieldConfig", "overrides", 2, "properties", 0, "value", 0},          // a mapping
		{"panels", 7, "fieldConfig", "overrides", 2, "properties", 1, "value"},             // cell options
		{"panels", 7, "fieldConfig", "overrides", 3, "properties", 0, "value", "steps", 0}, // thresholds
	} {
		if err := decodeStrictly(withUnknownField(t, content, path...)); err == nil || !strings.Contains(err.Error(), "unknownField") {
			t.Errorf("an unknown field at %v: %v", path, err)
		}
	}
}

// Each threshold that panels draw is one of the rules, and those of a panel rise.
func TestThresholdsAreThoseOfTheRules(t *testing.T) {
	own := alerts.Defaults()
	own.FillingBelow, own.PageBelow, own.AlmostFull, own.Full = 0.444, 0.222, 0.111, 0.055
	own.FillingWithin, own.PageWithin = alerts.Duration(33*time.Hour), alerts.Duration(7*time.Hour)
	want := []float64{0.055, 0.111, 0.222, 0.444, 1, 7 * 3600, 33 * 3600} // 1: the maximum age
	var drawn []float64
	for _, p := range []page{fleet(own), host(own)} {
		d, err := p.build()
		if err != nil {
			t.Fatal(err)
		}
		for _, panel := range d.Panels {
			if panel.Panel == nil {
				continue
			}
			drawn = append(drawn, thresholdValues(t, *panel.Panel.FieldConfig.Defaults.Thresholds)...)
			for _, override := range panel.Panel.FieldConfig.Overrides {
				for _, property := range override.Properties {
					if config, ok := property.Value.(dashboard.ThresholdsConfig); ok {
						drawn = append(drawn, thresholdValues(t, config)...)
					}
				}
			}
		}
	}
	slices.Sort(drawn)
	if drawn = slices.Compact(drawn); !slices.Equal(drawn, want) {
		t.Errorf("panels draw %v, want %v", drawn, want)
	}
	for name, content := range rendered(t, own) {
		if !strings.Contains(string(content), "1d9h") || !strings.Contains(string(content), "11.1%") {
			t.Errorf("the descriptions in %s do not name the thresholds", name)
		}
	}
}

func thresholdValues(t *testing.T, config dashboard.ThresholdsConfig) []float64 {
	t.Helper()
	var values []float64
	for i, step := range config.Steps {
		if (step.Value == nil) != (i == 0) { // the first step has no lower limit
			t.Errorf("step %d of %d has the value %v", i, len(config.Steps), step.Value)
		}
		if step.Value != nil {
			values = append(values, *step.Value)
		}
	}
	if !slices.IsSorted(values) {
		t.Errorf("the steps %v do not rise", values)
	}
	return values
}

func rendered(t *testing.T, thresholds alerts.Thresholds) map[string][]byte {
	t.Helper()
	files, err := render(thresholds)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// decodeStrictly returns an error if a dashboard has a field that the SDK does not know.
func decodeStrictly(content []byte) error {
	plugins.RegisterDefaultPlugins()
	if err := unmarshal(&dashboard.Dashboard{}, content); err != nil {
		return err
	}
	var raw struct {
		Panels []struct {
			Type, Title string
			FieldConfig json.RawMessage
		}
	}
	if err := json.Unmarshal(content, &raw); err != nil {
		return err
	}
	for _, p := range raw.Panels {
		if p.Type == "row" {
			continue
		}
		if err := decodeFieldConfig(p.Type, p.FieldConfig); err != nil {
			return fmt.Errorf("%q: %w", p.Title, err)
		}
	}
	return nil
}

// decodeFieldConfig decodes what the SDK's strict decoder of panels decodes leniently:
// the field configuration, and the overrides, for which the SDK has no types. Overrides
// are decoded as the defaults that they override.
func decodeFieldConfig(panelType string, content []byte) error {
	var config dashboard.FieldConfigSource
	if err := unmarshal(&config, content); err != nil {
		return err
	}
	for _, override := range config.Overrides {
		defaults, custom := map[string]any{}, map[string]any{}
		if panelType == "table" { // fields that the SDK requires
			custom = map[string]any{"align": "auto", "inspect": false}
		}
		for _, property := range override.Properties {
			if id, isCustom := strings.CutPrefix(property.Id, "custom."); isCustom {
				custom[id] = property.Value
			} else {
				defaults[property.Id] = property.Value
			}
		}
		defaults["custom"] = custom
		overridden := map[string]any{"defaults": defaults, "overrides": []any{}}
		content, err := json.Marshal(overridden)
		if err != nil {
			return err
		}
		panel, err := json.Marshal(map[string]any{"type": panelType, "fieldConfig": overridden})
		if err != nil {
			return err
		}
		// The type of custom depends on the type of the panel.
		if err := errors.Join(unmarshal(&dashboard.FieldConfigSource{}, content), unmarshal(&dashboard.Panel{}, panel)); err != nil {
			return err
		}
	}
	return nil
}

// unmarshal decodes strictly. The SDK returns an empty list of errors on success.
func unmarshal(target interface{ UnmarshalJSONStrict([]byte) error }, content []byte) error {
	err := target.UnmarshalJSONStrict(content)
	if list, ok := errors.AsType[cog.BuildErrors](err); ok && len(list) == 0 {
		return nil
	}
	return err
}

// withUnknownField returns a dashboard with one more field in the object at path.
func withUnknownField(t *testing.T, content []byte, path ...any) []byte {
	t.Helper()
	var root any
	if err := json.Unmarshal(content, &root); err != nil {
		t.Fatal(err)
	}
	object := root
	for _, step := range path {
		switch step := step.(type) {
		case int:
			object = object.([]any)[step]
		case string:
			object = object.(map[string]any)[step]
		}
	}
	object.(map[string]any)["unknownField"] = true
	changed, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

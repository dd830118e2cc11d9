package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"
)

const provisioning = root + "/.compose/grafana/provisioning"

// readStrictly decodes a YAML file. A key for which config has no field fails the test.
func readStrictly(t *testing.T, file string, config any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(readFile(t, file)), config); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestDataSources checks the data sources that compose.yaml mounts. Grafana ignores unknown keys, so a
// misspelt key would show only in a browser.
// The fields are those of https://grafana.com/docs/grafana/latest/administration/provisioning/.
func TestDataSources(t *testing.T) {
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name      string `yaml:"name"`
			Type      string `yaml:"type"`
			UID       string `yaml:"uid"`
			Access    string `yaml:"access"`
			URL       string `yaml:"url"`
			IsDefault bool   `yaml:"isDefault"`
			JSONData  struct {
				HTTPMethod      string `yaml:"httpMethod"`
				TimeInterval    string `yaml:"timeInterval"`
				ManageAlerts    bool   `yaml:"manageAlerts"`
				AlertmanagerUID string `yaml:"alertmanagerUid"`
				Implementation  string `yaml:"implementation"`
			} `yaml:"jsonData"`
		} `yaml:"datasources"`
	}
	readStrictly(t, filepath.Join(provisioning, "datasources/docker-buildup.yaml"), &sources)
	types, defaults := map[string]string{}, 0
	for _, source := range sources.Datasources {
		types[source.UID] = source.Type
		if source.IsDefault {
			defaults++
		}
		if source.Name == "" || source.UID == "" || source.Access != "proxy" || source.URL == "" {
			t.Errorf("got data source %+v, want a name, UID and URL, and access by proxy", source)
		}
	}
	if sources.APIVersion != 1 || defaults != 1 {
		t.Errorf("got version %d and %d default data sources, want 1 and 1", sources.APIVersion, defaults)
	}
	for _, source := range sources.Datasources {
		if uid := source.JSONData.AlertmanagerUID; uid != "" && types[uid] != "alertmanager" {
			t.Errorf("%s: got alerts managed by data source %q of type %q, want an Alertmanager", source.Name, uid, types[uid])
		}
	}
}

// TestMountedDashboards checks that compose.yaml mounts the dashboards where their provider looks, and that
// one of them is the home page.
func TestMountedDashboards(t *testing.T) {
	var providers struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name           string `yaml:"name"`
			Type           string `yaml:"type"`
			Folder         string `yaml:"folder"`
			AllowUIUpdates bool   `yaml:"allowUiUpdates"`
			Options        struct {
				Path string `yaml:"path"`
			} `yaml:"options"`
		} `yaml:"providers"`
	}
	readStrictly(t, filepath.Join(provisioning, "dashboards/docker-buildup.yaml"), &providers)
	if providers.APIVersion != 1 || len(providers.Providers) != 1 || providers.Providers[0].Type != "file" {
		t.Fatalf("got %+v, want one provider of type file", providers)
	}
	compose := readFile(t, root+"/compose.yaml")
	path := providers.Providers[0].Options.Path
	if !strings.Contains(compose, "source: dashboards\n        target: "+path+"\n") {
		t.Errorf("compose.yaml does not mount the dashboards at %s", path)
	}
	home := regexp.MustCompile(`HOME_DASHBOARD_PATH: ` + path + `/(\S+)`).FindStringSubmatch(compose)
	if home == nil {
		t.Fatalf("got no home dashboard in compose.yaml, want one in %s", path)
	}
	if _, err := os.Stat(filepath.Join(root, "dashboards", home[1])); err != nil {
		t.Error(err)
	}
}

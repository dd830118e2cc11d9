package docker

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Environment is what of the surroundings of this process matters. The zero value has no
// variables and is not in a container.
type Environment struct {
	Variables   map[string]string
	Proxy       func(*http.Request) (*url.URL, error) // of a request to an engine on TCP; nil: none
	UID         int
	Groups      []int
	InContainer bool
	UIDMap      string // /proc/self/uid_map
}

// ReadEnvironment returns the environment of this process.
func ReadEnvironment() Environment {
	e := Environment{Variables: make(map[string]string), Proxy: http.ProxyFromEnvironment, UID: os.Getuid()}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		e.Variables[name] = value
	}
	groups, _ := os.Getgroups() // without them a hint is less exact
	e.Groups = append(groups, os.Getgid())
	for _, file := range []string{"/.dockerenv", "/run/.containerenv"} { // of Docker, of Podman
		_, err := os.Stat(file)
		e.InContainer = e.InContainer || err == nil
	}
	e.InContainer = e.InContainer || e.Variables["container"] != "" || e.Variables["KUBERNETES_SERVICE_HOST"] != ""
	uidMap, _ := os.ReadFile("/proc/self/uid_map")
	e.UIDMap = string(uidMap)
	return e
}

// configDir returns the directory of the Docker CLI's settings and certificates, or "".
func (e Environment) configDir() string {
	if dir := e.Variables["DOCKER_CONFIG"]; dir != "" {
		return dir
	}
	if home := e.Variables["HOME"]; home != "" {
		return filepath.Join(home, ".docker")
	}
	return ""
}

// userNamespace is how the user IDs of a process differ from those of its host.
type userNamespace int

const (
	initialNamespace  userNamespace = iota // they do not
	remappedNamespace                      // of an engine with userns-remap: root is one of many other users
	rootlessNamespace                      // of a rootless engine: root is the user who runs the engine
)

func (e Environment) userNamespace() userNamespace {
	fields := strings.Fields(e.UIDMap) // first ID inside, first ID outside, number of IDs, …
	switch {
	case len(fields) < 3, fields[0] == "0" && fields[1] == "0":
		return initialNamespace
	case fields[0] == "0" && fields[2] == "1":
		return rootlessNamespace
	default:
		return remappedNamespace
	}
}

package docker

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"docker_buildup_exporter/collector/model"

	"github.com/docker/docker/client"
)

const unixPrefix = "unix://"

// findHosts returns the address of the engine, or several sockets of which the first that
// exists is used. A warning says why a setting of the Docker CLI is not followed.
func findHosts(host string, environment Environment) (hosts []string, warning error) {
	host = strings.TrimSpace(cmp.Or(host, environment.Variables[client.EnvOverrideHost]))
	if host != "" {
		return []string{host}, nil
	}
	host, warning = contextHost(environment)
	if host != "" {
		return []string{host}, nil
	}
	return defaultSockets(environment), warning
}

// defaultSockets returns where an engine on this machine listens by default, in the order of
// preference: Docker before Podman. The user's Podman comes before that of root, because only
// root can see whether the latter's socket exists.
func defaultSockets(environment Environment) []string {
	const docker, podman = client.DefaultDockerHost, "unix:///run/podman/podman.sock"
	dir := environment.Variables["XDG_RUNTIME_DIR"]
	switch {
	case dir == "" && environment.UID == 0:
		return []string{docker, podman}
	case dir == "":
		dir = fmt.Sprintf("/run/user/%d", environment.UID)
	}
	return []string{docker, unixPrefix + filepath.Join(dir, "docker.sock"), unixPrefix + filepath.Join(dir, "podman/podman.sock"), podman}
}

// contextHost returns the socket of the context that the Docker CLI would use. It returns ""
// for the default context, and "" and an error for one that cannot be followed.
func contextHost(environment Environment) (string, error) {
	dir := environment.configDir()
	name := environment.Variables["DOCKER_CONTEXT"]
	if name == "" && dir != "" {
		var config struct{ CurrentContext string }
		if err := readJSON(filepath.Join(dir, "config.json"), &config); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("cannot read the settings of the Docker CLI: %w", err)
		}
		name = config.CurrentContext
	}
	if name == "" || name == "default" {
		return "", nil
	}
	var metadata struct {
		Endpoints map[string]struct{ Host string }
	}
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(name)))
	if err := readJSON(filepath.Join(dir, "contexts/meta", id, "meta.json"), &metadata); err != nil {
		return "", fmt.Errorf("cannot read the Docker context %q: %w", name, err)
	}
	host := metadata.Endpoints["docker"].Host
	if host != "" && !strings.HasPrefix(host, unixPrefix) {
		return "", fmt.Errorf("the Docker context %q is %s, and only contexts that are unix sockets are followed", name, model.Line(host))
	}
	return host, nil
}

func readJSON(file string, value any) error {
	content, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(content, value)
	}
	return err
}

// addressForms are the addresses that parseHost accepts.
const addressForms = "use unix://PATH, tcp://HOST:PORT or http://HOST:PORT"

// parseHost returns an address in full, as the Docker CLI completes it (docker/cli:
// opts.ParseTCPAddr): tcp://HOST has port 2375, with TLS too. The result has no user and no password, which no engine wants.
func parseHost(host string) (string, error) {
	scheme, rest, hasScheme := strings.Cut(host, "://")
	if !hasScheme && strings.Contains(scheme, ":") { // HOST:PORT
		scheme, rest = "tcp", scheme
	} else if !hasScheme {
		return "", fmt.Errorf("engine address %q is invalid: %s (for a Docker context, docker context inspect shows its address)", host, addressForms)
	}
	if scheme != "unix" {
		rest = rest[strings.LastIndex(rest, "@")+1:]
	}
	shown := scheme + "://" + rest
	switch scheme {
	case "unix":
		return unixPrefix + cmp.Or(rest, strings.TrimPrefix(client.DefaultDockerHost, unixPrefix)), nil
	case "tcp", "http":
		port := "2375"
		if scheme == "http" {
			port = "" // HTTP has its own
		}
		address, err := completeAddress(rest, port)
		if err != nil {
			return "", fmt.Errorf("engine address %q: %w: %s", shown, err, addressForms)
		}
		return scheme + "://" + address, nil
	case "ssh":
		return "", fmt.Errorf("engine address %q: ssh:// is not supported; forward the socket (ssh -N -L /tmp/docker.sock:/var/run/docker.sock USER@HOST) and use unix:///tmp/docker.sock, or run the exporter on that host", shown)
	case "fd":
		return "", fmt.Errorf("engine address %q: fd:// is where an engine gets its socket from systemd; use the path of that socket (unix:///var/run/docker.sock)", shown)
	case "npipe":
		return "", fmt.Errorf("engine address %q: named pipes of Windows are not supported: %s", shown, addressForms)
	case "https":
		return "", fmt.Errorf("engine address %q: use tcp://HOST:PORT with --docker.tls-ca", shown)
	default:
		return "", fmt.Errorf("engine address %q: %s", shown, addressForms)
	}
}

// completeAddress adds what is missing to HOST:PORT/PATH.
func completeAddress(address, port string) (string, error) {
	parsed, err := url.Parse("tcp://" + address)
	if failure := new(url.Error); errors.As(err, &failure) { // its text repeats the address
		err = failure.Err
	}
	if err != nil {
		return "", err
	}
	if strings.Count(parsed.Host, ":") > 1 && !strings.HasPrefix(parsed.Host, "[") {
		return "", errors.New("an IPv6 address must be in brackets")
	}
	host := net.JoinHostPort(cmp.Or(parsed.Hostname(), "localhost"), cmp.Or(parsed.Port(), port))
	return strings.TrimSuffix(host, ":") + parsed.Path, nil
}

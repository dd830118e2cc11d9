package docker

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/docker/client"
	"github.com/docker/go-connections/tlsconfig"
)

// TLS is how to use TLS with an engine on tcp://. The server's certificate is verified
// unless Insecure. An empty CA means the system's certificate authorities.
type TLS struct {
	CA, Cert, Key string // files, PEM
	Insecure      bool
}

// findHost returns the address of the engine, or several of which the first that exists is used.
func findHost(host string) ([]string, error) {
	if host == "" {
		host = os.Getenv(client.EnvOverrideHost)
	}
	if host != "" {
		return []string{host}, nil
	}
	if name := currentContext(); name != "" {
		return nil, fmt.Errorf("the Docker context %q is in use, and contexts are not supported: set --docker.host to its address (docker context inspect %s)", name, name)
	}
	candidates := []string{client.DefaultDockerHost}
	podman := []string{"unix:///run/podman/podman.sock"}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		candidates = append(candidates, "unix://"+filepath.Join(dir, "docker.sock"))
		// The user's own first: others than root cannot see whether the system's exists.
		podman = append([]string{"unix://" + filepath.Join(dir, "podman/podman.sock")}, podman...)
	}
	return append(candidates, podman...), nil
}

// currentContext returns the context that the Docker CLI would use, or "" for the default
// one. Ignoring it would mean to watch another engine than the user's.
func currentContext() string {
	name := os.Getenv("DOCKER_CONTEXT")
	if name == "" {
		var config struct{ CurrentContext string }
		if file, err := os.ReadFile(filepath.Join(configDir(), "config.json")); err == nil {
			_ = json.Unmarshal(file, &config) // an invalid file has no context
		}
		name = config.CurrentContext
	}
	if name == "default" {
		return ""
	}
	return name
}

// configDir returns the directory of the Docker CLI's settings and certificates.
func configDir() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker")
}

// parseHost splits an address into what the Docker client calls proto and addr.
func parseHost(host string) (proto, addr string, err error) {
	scheme, rest, found := strings.Cut(host, "://")
	switch {
	case !found || rest == "":
		return "", "", fmt.Errorf("engine address %q is invalid: use unix://PATH, tcp://HOST:PORT or http://HOST:PORT (for a Docker context, docker context inspect shows its address)", host)
	case scheme == "ssh":
		return "", "", fmt.Errorf("engine address %q: ssh:// is not supported; forward the socket (ssh -N -L /tmp/docker.sock:/var/run/docker.sock USER@HOST) and use unix:///tmp/docker.sock, or run the exporter on that host", host)
	case scheme == "unix":
		return "unix", rest, nil
	case scheme == "tcp", scheme == "http":
		url, err := client.ParseHostURL("tcp://" + rest)
		if err != nil {
			return "", "", fmt.Errorf("engine address %q: %w", host, err)
		}
		return "tcp", url.Host, nil
	default:
		return "", "", fmt.Errorf("engine address %q: use unix://PATH, tcp://HOST:PORT or http://HOST:PORT", host)
	}
}

// load returns the TLS configuration, or nil if nothing requests TLS. Defaults are those of
// the Docker CLI's environment variables.
func (t TLS) load() (*tls.Config, error) {
	dir := os.Getenv(client.EnvOverrideCertPath)
	if dir == "" && os.Getenv(client.EnvTLSVerify) != "" {
		dir = configDir()
	}
	if t == (TLS{}) && dir == "" {
		return nil, nil
	}
	if dir != "" {
		for file, name := range map[*string]string{&t.CA: "ca.pem", &t.Cert: "cert.pem", &t.Key: "key.pem"} {
			if *file == "" {
				*file = filepath.Join(dir, name)
			}
		}
	}
	config, err := tlsconfig.Client(tlsconfig.Options{
		CAFile:             t.CA,
		CertFile:           t.Cert,
		KeyFile:            t.Key,
		InsecureSkipVerify: t.Insecure,
		ExclusiveRootPools: true,
	})
	if err != nil {
		return nil, fmt.Errorf("TLS files for the engine: %w", err)
	}
	return config, nil
}

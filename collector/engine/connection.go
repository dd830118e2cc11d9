package engine

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	"github.com/docker/go-connections/sockets"
	"github.com/docker/go-connections/tlsconfig"
)

// TLS says how to speak TLS with an engine on tcp://. The server is verified
// unless Insecure. An empty CA stands for the system's.
type TLS struct {
	CA, Cert, Key string // files, PEM
	Insecure      bool
}

// The versions of the Engine API that this package understands.
const (
	oldestAPI = "1.40"
	newestAPI = "1.51"
)

// largestAnswer bounds what is read of one answer, in bytes. A list of 3,000
// images is 0.8 MB, so only an engine that lies or fails sends more than this.
const largestAnswer = 32 << 20

// A connection is the way to one engine, whether it is there or not.
type connection struct {
	host   string // as a user would write it
	scheme string // of HTTP
	http   http.RoundTripper

	mu      sync.Mutex
	client  *client.Client // speaks the version that was negotiated last
	version string         // the newest that the engine spoke then
}

func newConnection(host string, options TLS) (*connection, error) {
	candidates, err := findHost(host)
	if err != nil {
		return nil, err
	}
	c := &connection{host: candidates[0], scheme: "http"}
	proto, addr, err := parseHost(c.host)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{}
	if err := sockets.ConfigureTransport(transport, proto, addr); err != nil {
		return nil, fmt.Errorf("engine address %q: %w", c.host, err)
	}
	if len(candidates) > 1 {
		transport.DialContext = dialFirst(candidates)
	}
	if proto == "tcp" && !strings.HasPrefix(c.host, "http://") {
		config, err := options.load()
		if err != nil {
			return nil, err
		}
		if config != nil {
			c.scheme, transport.TLSClientConfig = "https", config
		}
	}
	c.http = readOnly{transport}
	c.client, err = c.newClient(newestAPI)
	return c, err
}

// findHost returns the engine's address, or several where the first that is there counts.
func findHost(host string) ([]string, error) {
	if host == "" {
		host = os.Getenv(client.EnvOverrideHost)
	}
	if host != "" {
		return []string{host}, nil
	}
	if name := contextInUse(); name != "" {
		return nil, fmt.Errorf("the Docker context %q is in use, and contexts are not read: give its address with --docker.host (see: docker context inspect %s)", name, name)
	}
	candidates := []string{client.DefaultDockerHost}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		candidates = append(candidates, "unix://"+filepath.Join(dir, "docker.sock"))
	}
	return candidates, nil
}

// contextInUse returns the context that the Docker CLI would take here, if it
// is not the default one. Not to see it would be to watch another engine.
func contextInUse() string {
	name := os.Getenv("DOCKER_CONTEXT")
	if name == "" {
		var config struct{ CurrentContext string }
		if file, err := os.ReadFile(filepath.Join(configDir(), "config.json")); err == nil {
			// A file that is no JSON is the CLI's trouble, not ours.
			_ = json.Unmarshal(file, &config)
		}
		name = config.CurrentContext
	}
	if name == "default" {
		return ""
	}
	return name
}

// configDir is the folder in which the Docker CLI keeps its settings and certificates.
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
		return "", "", fmt.Errorf("engine address %q is no address: give unix://PATH, tcp://HOST:PORT or http://HOST:PORT (the name of a Docker context will not do: docker context inspect shows its address)", host)
	case scheme == "ssh":
		return "", "", fmt.Errorf("engine address %q: ssh:// is not spoken here; forward the socket (ssh -N -L /tmp/docker.sock:/var/run/docker.sock USER@HOST) and give unix:///tmp/docker.sock, or run the exporter on that host", host)
	case scheme == "unix":
		return "unix", rest, nil
	case scheme == "tcp", scheme == "http":
		url, err := client.ParseHostURL("tcp://" + rest)
		if err != nil {
			return "", "", fmt.Errorf("engine address %q: %w", host, err)
		}
		return "tcp", url.Host, nil
	default:
		return "", "", fmt.Errorf("engine address %q: give unix://PATH, tcp://HOST:PORT or http://HOST:PORT", host)
	}
}

// dialFirst connects to the first of several sockets that exists, and stays with
// the one that it has once reached: when that engine goes away, another engine's
// figures are no answer.
func dialFirst(hosts []string) func(context.Context, string, string) (net.Conn, error) {
	var mu sync.Mutex
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		var dialer net.Dialer
		var firstErr error
		for _, host := range hosts {
			conn, err := dialer.DialContext(ctx, "unix", strings.TrimPrefix(host, "unix://"))
			if err == nil {
				hosts = []string{host}
				return conn, nil
			}
			if firstErr == nil {
				firstErr = err
			}
			if !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		return nil, firstErr
	}
}

// load returns the TLS configuration, or nil where nothing asks for TLS.
// What the options leave out comes from the Docker CLI's own variables.
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

func (c *connection) isLocal() bool {
	return strings.HasPrefix(c.host, "unix://")
}

func (c *connection) newClient(version string) (*client.Client, error) {
	host := c.host
	if rest, ok := strings.CutPrefix(host, "http://"); ok {
		host = "tcp://" + rest
	}
	return client.NewClientWithOpts(
		client.WithHost(host),
		client.WithHTTPClient(&http.Client{Transport: c.http, CheckRedirect: client.CheckRedirect}),
		client.WithScheme(c.scheme),
		client.WithVersion(version),
	)
}

// ping returns the newest version of the API that the engine speaks.
func (c *connection) ping(ctx context.Context) (version string, err error) {
	answer, err := c.current().Ping(ctx)
	if cerrdefs.IsNotFound(err) || err == nil && !isVersion(answer.APIVersion) {
		return "", noEngineError{answer.APIVersion}
	}
	return answer.APIVersion, err
}

// current returns the client that speaks the version negotiated last.
func (c *connection) current() *client.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client
}

// isVersion tells whether text is one, as "1.41" is: it becomes part of every path.
func isVersion(text string) bool {
	major, minor, _ := strings.Cut(text, ".")
	_, majorErr := strconv.ParseUint(major, 10, 16)
	_, minorErr := strconv.ParseUint(minor, 10, 16)
	return majorErr == nil && minorErr == nil
}

// speak makes the client one for the newest version that both sides understand,
// and tells whether the engine spoke another one before. The Docker client's own
// negotiation only ever lowers its version, and sticks to it for ever; so the version is
// taken from every ping, and an engine that was upgraded or downgraded is understood at
// once.
func (c *connection) speak(engineVersion string) (changed bool, err error) {
	if versions.LessThan(engineVersion, oldestAPI) {
		return false, tooOldError{engineVersion}
	}
	version := newestAPI
	if versions.LessThan(engineVersion, version) {
		version = engineVersion
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	changed = c.version != "" && c.version != engineVersion
	c.version = engineVersion
	if c.client.ClientVersion() == version {
		return changed, nil
	}
	newClient, err := c.newClient(version)
	if err == nil {
		c.client = newClient
	}
	return changed, err
}

// readOnly lets nothing but reading requests through, and reads no more of an
// answer than any engine would say.
type readOnly struct{ http.RoundTripper }

func (t readOnly) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method != http.MethodGet && request.Method != http.MethodHead {
		return nil, fmt.Errorf("this program only reads: %s %s is not sent", request.Method, request.URL.Path)
	}
	response, err := t.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, transportError{err}
	}
	if status, wanted := request.Context().Value(statusKey{}).(*int); wanted {
		*status = response.StatusCode
	}
	response.Body = &limitedBody{response.Body, largestAnswer}
	return response, nil
}

// statusKey is the key under which a context has where the status of an answer is to
// be kept, for what the Docker client does not tell.
type statusKey struct{}

// limitedBody is http.MaxBytesReader for a client.
type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

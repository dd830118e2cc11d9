// Package docker is the only importer of the Docker client: it reaches an engine, converts
// its answers to model values and explains its errors. It only ever sends GET and HEAD
// requests.
package docker

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	"github.com/docker/go-connections/sockets"
)

// Config is how to reach an engine.
type Config struct {
	// Host is the address: unix://PATH, tcp://HOST:PORT or http://HOST:PORT. If empty:
	// DOCKER_HOST, else the CLI's current context if it is a unix socket, else the local
	// socket, else the rootless one.
	Host        string
	TLS         TLS
	Environment Environment

	// Timeout bounds requests that are fast on every engine: ping, info, the inspection of
	// one object.
	Timeout time.Duration

	// Repositories says that images need the names of their repositories.
	Repositories bool

	// Transport replaces the connection to Host if it is not nil.
	Transport http.RoundTripper
}

// The range of Engine API versions that this package supports.
const (
	OldestAPI = "1.40"
	NewestAPI = "1.51"
)

// maxEvent bounds one event in bytes, because the Docker client holds it as a whole. It has the
// labels of its object.
const maxEvent = 4 << 20

// Client reaches one engine. It does not change, except that it stays with the first of several
// sockets that it has reached.
type Client struct {
	Config
	Warning error // why a setting of the Docker CLI is not followed

	scheme      string // of HTTP
	http        http.RoundTripper
	certificate *x509.Certificate // for the engine; nil: none
	proxy       string            // variable that names the proxy of all requests; "": none
	dial        func(context.Context) (net.Conn, error)
}

// New returns a client. The engine need not be running. An error means that the
// configuration can never work: an invalid address, or an unreadable certificate.
func New(config Config) (*Client, error) {
	hosts, warning := findHosts(config.Host, config.Environment)
	var err error
	var isTLS bool
	config.TLS, isTLS = config.TLS.complete(config.Environment)
	for i := range hosts {
		if hosts[i], err = parseHost(hosts[i]); err != nil {
			return nil, err
		}
	}
	config.Host = hosts[0]
	c := &Client{Config: config, Warning: warning, scheme: "http"}
	transport := &http.Transport{}
	proto, address, _ := strings.Cut(config.Host, "://")
	if err := sockets.ConfigureTransport(transport, proto, address); err != nil {
		return nil, fmt.Errorf("engine address %q: %w", config.Host, err)
	}
	if c.IsLocal() {
		transport.DialContext = dialFirst(hosts)
	} else if err := c.configureTCP(transport, isTLS && proto == "tcp"); err != nil {
		return nil, err
	}
	c.dial = func(ctx context.Context) (net.Conn, error) { return transport.DialContext(ctx, proto, address) }
	c.http = readOnly{transport}
	if config.Transport != nil {
		c.http = readOnly{config.Transport}
	}
	_, err = c.newClient(NewestAPI)
	return c, err
}

// configureTCP sets what only connections over TCP have: TLS and a proxy.
func (c *Client) configureTCP(transport *http.Transport, isTLS bool) error {
	variables := []string{"HTTP_PROXY", "http_proxy"}
	if isTLS {
		config, err := c.TLS.load()
		if err != nil {
			return err
		}
		if len(config.Certificates) > 0 {
			c.certificate = config.Certificates[0].Leaf
		}
		variables = []string{"HTTPS_PROXY", "https_proxy"}
		c.scheme, transport.TLSClientConfig = "https", config
	}
	transport.Proxy = c.Environment.Proxy
	_, address, _ := strings.Cut(c.Host, "://")
	request, err := http.NewRequest(http.MethodHead, c.scheme+"://"+address, nil)
	if err != nil || transport.Proxy == nil {
		return err
	}
	if proxy, err := transport.Proxy(request); proxy != nil || err != nil {
		isSet := func(name string) bool { return c.Environment.Variables[name] != "" }
		c.proxy = variables[max(0, slices.IndexFunc(variables, isSet))]
	}
	return nil
}

// DialSocket returns a function that connects to the engine's Unix socket, or nil if the engine is
// reached otherwise.
func (c *Client) DialSocket() func(context.Context) (net.Conn, error) {
	if !c.IsLocal() {
		return nil
	}
	return c.dial
}

// IsLocal reports whether the engine is reached by a socket of this machine.
func (c *Client) IsLocal() bool { return strings.HasPrefix(c.Host, unixPrefix) }

func (c *Client) newClient(version string) (*client.Client, error) {
	host := c.Host
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

const pingEndpoint = "/_ping"

// Ping returns what the engine supports.
func (c *Client) Ping(ctx context.Context) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	api, err := c.newClient(NewestAPI)
	if err != nil {
		return Version{}, err
	}
	head := responseHead{status: http.StatusOK}
	answer, err := api.Ping(context.WithValue(ctx, headKey{}, &head))
	if isRedirect := head.status/100 == 3; isRedirect || cerrdefs.IsNotFound(err) || err == nil && !isVersion(answer.APIVersion) {
		err = notDockerError{head.status, answer.APIVersion}
	}
	return Version{API: answer.APIVersion, Podman: head.isPodman()}, c.explain(pingEndpoint, err)
}

// isVersion reports whether text is an API version like "1.41". It becomes part of every path.
func isVersion(text string) bool {
	major, minor, _ := strings.Cut(text, ".")
	_, majorErr := strconv.ParseUint(major, 10, 16)
	_, minorErr := strconv.ParseUint(minor, 10, 16)
	return majorErr == nil && minorErr == nil
}

// At returns the API of an engine that supports the given version, at the newest version
// that both sides support. The negotiation of the Docker client is not used: it only ever
// lowers the version, so it would not notice an upgrade of the engine.
func (c *Client) At(engine Version) (*API, error) {
	if versions.LessThan(engine.API, OldestAPI) {
		return nil, c.explain(pingEndpoint, tooOldError{engine.API})
	}
	version := NewestAPI
	if versions.LessThan(engine.API, version) {
		version = engine.API
	}
	negotiated, err := c.newClient(version)
	return &API{client: c, api: negotiated, podman: engine.Podman}, err
}

// dialFirst connects to the first socket that exists. One in a directory that is closed to this
// process counts only if there is no other: that of podman-docker is a link to the one of root's
// Podman. After the first success it stays with that socket: another engine must not take the place of
// one that is gone.
func dialFirst(hosts []string) func(context.Context, string, string) (net.Conn, error) {
	var mu sync.Mutex
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		failure := dialError{strings.Join(hosts, ", "), syscall.ENOENT, nil}
		var missing []string
		for _, host := range hosts {
			var dialer net.Dialer
			path := strings.TrimPrefix(host, unixPrefix)
			conn, err := dialer.DialContext(ctx, "unix", path)
			switch {
			case err == nil:
				hosts = []string{host}
				return conn, nil
			case errors.Is(err, fs.ErrNotExist):
				missing = append(missing, host)
			case !errors.Is(err, fs.ErrPermission) || !inspectSocket(path).isNoFile:
				return nil, dialError{host, err, missing}
			case errors.Is(failure, syscall.ENOENT):
				failure = dialError{host, err, slices.Clone(missing)}
			}
		}
		return nil, failure
	}
}

// dialError is a connection that failed, and to which sockets.
type dialError struct {
	hosts   string
	err     error
	missing []string // sockets of higher preference that do not exist
}

func (e dialError) Error() string {
	err := e.err
	if network, found := errors.AsType[*net.OpError](err); found { // without the path, which the host has
		err = network.Err
	}
	text := fmt.Sprintf("dial %s: %v", e.hosts, err)
	if len(e.missing) > 0 {
		text += "; no such file: " + strings.Join(e.missing, ", ")
	}
	return text
}

func (e dialError) Unwrap() error { return e.err }

// eventReader bounds the events of a stream, each of which is a line.
type eventReader struct {
	io.ReadCloser
	read int // of the event
}

func (r *eventReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.read += n
	if end := bytes.LastIndexByte(p[:n], '\n'); end >= 0 {
		r.read = n - end - 1
	}
	if r.read > maxEvent {
		return n, fmt.Errorf("%w: an event of more than %d MiB", errMalformed, maxEvent>>20)
	}
	return n, err
}

// readOnly refuses requests other than GET and HEAD, and bounds events.
type readOnly struct{ http.RoundTripper }

func (t readOnly) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method != http.MethodGet && request.Method != http.MethodHead {
		return nil, fmt.Errorf("this program only reads: %s %s is not sent", request.Method, request.URL.Path)
	}
	response, err := t.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, transportError{err}
	}
	if head, wanted := request.Context().Value(headKey{}).(*responseHead); wanted {
		*head = responseHead{response.StatusCode, response.Header}
		response.Body = &eventReader{ReadCloser: response.Body}
	}
	return response, nil
}

// responseHead is the part of an HTTP response that the Docker client does not expose.
type responseHead struct {
	status int
	header http.Header
}

// headKey is the context key of a *responseHead that receives the head of the response.
type headKey struct{}

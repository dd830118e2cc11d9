// Package containerd reads what the containerd of an engine keeps. It makes only calls that read,
// and is the only importer of containerd's API.
package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"docker_buildup_exporter/collector/model"

	content "github.com/containerd/containerd/api/services/content/v1"
	images "github.com/containerd/containerd/api/services/images/v1"
	leases "github.com/containerd/containerd/api/services/leases/v1"
	namespaces "github.com/containerd/containerd/api/services/namespaces/v1"
	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// None as an address switches the client off.
const None = "none"

// Engine is what an engine reports about its containerd (Engine API: /info).
type Engine struct {
	Address     string // of the socket; "": unknown
	Namespace   string // "": moby
	Snapshotter string
}

// Client reads the store of one containerd. It keeps what does not change.
type Client struct {
	address      string
	repositories bool
	now          func() time.Time

	mu    sync.Mutex
	cache cache
}

// New returns a client of the containerd at an address, or of the engine's if it is "". It
// returns nil if the address is None. repositories says to keep the names of repositories.
func New(address string, repositories bool) *Client {
	if address == None {
		return nil
	}
	return &Client{address: strings.TrimPrefix(address, "unix://"), repositories: repositories, now: time.Now}
}

// addresses returns where to look for the containerd of an engine.
func (c *Client) addresses(e Engine) []string {
	switch {
	case c.address != "":
		return []string{c.address}
	case e.Address != "":
		return []string{strings.TrimPrefix(e.Address, "unix://")}
	}
	return []string{"/run/containerd/containerd.sock", "/var/run/docker/containerd/containerd.sock"} // of packages, and of an engine that starts its own
}

// Read returns what the containerd of an engine keeps. used are the times at which records of
// the build cache were last used, as far as they are known: until then nothing was written to
// them. It is nil if no records are known. An error is a model.Failure; one without access says how to give it.
func (c *Client) Read(ctx context.Context, e Engine, used map[string]time.Time) (Store, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn, err := c.connect(ctx, e)
	if err != nil {
		return Store{}, err
	}
	defer conn.close()
	r := reading{services: conn.services, engine: conn.engine, used: used, cache: &c.cache, repositories: c.repositories, now: c.now}
	store, err := r.read(ctx)
	if err != nil {
		return Store{}, &model.Failure{Kind: kind(err), Reason: fmt.Sprintf("%s: %v", conn.address, err), Err: err, Hint: unreadHint}
	}
	return store, nil
}

// Measure connects to the containerd of an engine. It returns a function that measures the writable layer
// of a container in bytes, as the engine does (Engine API: SizeRw), and one that closes the connection.
func (c *Client) Measure(ctx context.Context, e Engine) (measure func(ctx context.Context, container string) (int64, error), end func(), err error) {
	conn, err := c.connect(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, container string) (int64, error) {
		usage, err := conn.snapshots.Usage(conn.inNamespace(ctx), &snapshots.UsageRequest{Snapshotter: conn.engine.Snapshotter, Key: container})
		if err == nil && usage.GetSize() < 0 {
			err = errors.New("a size is negative")
		}
		return usage.GetSize(), err
	}, conn.close, nil
}

// kind returns the cause of an error: the code of a status or of the end of a context, else its text.
func kind(err error) string {
	if code := status.FromContextError(err).Code(); code != codes.Unknown {
		return code.String()
	}
	if code := status.Code(err); code != codes.Unknown {
		return code.String()
	}
	return err.Error()
}

// unreadHint is what happens while containerd does not answer.
const unreadHint = "until it can be read, the figures are computed from the Engine API"

// accessHint is how to give access to the socket.
const accessHint = `see "Levels of access" in the README: with access to containerd's socket the figures of cleanup commands are exact, and cost the engine little; --containerd.address=none turns this off`

// dialFailure describes why there is no connection. Where the address was not given, a socket
// that does not exist is no access, too.
func (c *Client) dialFailure(address string, err error) error {
	isMissing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
	failure := &model.Failure{Kind: "dial", Reason: err.Error(), Hint: unreadHint, Err: err, NoAccess: errors.Is(err, fs.ErrPermission) || isMissing && c.address == ""}
	if failure.NoAccess {
		failure.Hint = accessHint
	}
	return failure
}

// maxMessage bounds the size of an answer in bytes.
const maxMessage = 64 << 20

type services struct {
	namespaces namespaces.NamespacesClient
	images     images.ImagesClient
	leases     leases.LeasesClient
	content    content.ContentClient
	snapshots  snapshots.SnapshotsClient
}

type connection struct {
	services
	engine  Engine
	address string
	close   func()
}

// inNamespace returns a context for calls about the engine's namespace.
func (c *connection) inNamespace(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", c.engine.Namespace)
}

// connect connects to the first address that accepts it.
func (c *Client) connect(ctx context.Context, e Engine) (*connection, error) {
	var failure error
	for _, address := range c.addresses(e) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", address)
		if err == nil {
			return newConnection(conn, e, address)
		}
		failure = c.dialFailure(address, err)
	}
	return nil, failure
}

func newConnection(conn net.Conn, e Engine, address string) (*connection, error) {
	single := make(chan net.Conn, 1) // never another: behind the same socket it may be another containerd
	single <- conn
	client, err := grpc.NewClient("passthrough:///containerd", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)), grpc.WithUnaryInterceptor(onlyReadUnary), grpc.WithStreamInterceptor(onlyReadStream),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case conn := <-single:
				return conn, nil
			default:
				return nil, errors.New("the connection was closed")
			}
		}))
	if err != nil {
		conn.Close()
		return nil, &model.Failure{Kind: kind(err), Reason: fmt.Sprintf("%s: %v", address, err), Err: err, Hint: unreadHint}
	}
	if e.Namespace == "" {
		e.Namespace = "moby"
	}
	return &connection{
		services: services{namespaces.NewNamespacesClient(client), images.NewImagesClient(client), leases.NewLeasesClient(client),
			content.NewContentClient(client), snapshots.NewSnapshotsClient(client)},
		engine: e, address: address,
		close: func() {
			client.Close()
			conn.Close() // the client takes it with the first call only
		},
	}, nil
}

func isReadOnly(method string) bool {
	switch path.Base(method) {
	case "List", "ListResources", "Usage", "Read":
		return true
	}
	return false
}

// errWrites is the answer to a call that may write.
var errWrites = status.Error(codes.PermissionDenied, "the exporter makes only calls that read")

func onlyReadUnary(ctx context.Context, method string, request, reply any, client *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if !isReadOnly(method) {
		return errWrites
	}
	return invoke(ctx, method, request, reply, client, options...)
}

func onlyReadStream(ctx context.Context, description *grpc.StreamDesc, client *grpc.ClientConn, method string, stream grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	if !isReadOnly(method) {
		return nil, errWrites
	}
	return stream(ctx, description, client, method, options...)
}

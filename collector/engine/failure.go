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
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	cerrdefs "github.com/containerd/errdefs"
)

// transportError is a request that got no HTTP answer. Its text keeps the cause
// from the Docker client, which would replace some causes by advice of its own.
type transportError struct{ cause error }

func (e transportError) Error() string { return "no answer" }
func (e transportError) Unwrap() error { return e.cause }

// tooOldError is an engine that speaks only versions of the API before ours.
type tooOldError struct{ version string }

func (e tooOldError) Error() string {
	return fmt.Sprintf("the engine speaks Engine API %s, this exporter %s to %s", e.version, oldestAPI, newestAPI)
}

// noEngineError is something that answers, but not as an engine does.
type noEngineError struct{ version string }

func (e noEngineError) Error() string {
	return fmt.Sprintf("what answers is no Docker engine: its Api-Version header is %q", e.version)
}

// errIncomplete is a list that an engine would not make: a record without an ID.
var errIncomplete = errors.New("a record has no ID or no state")

// errNoLayers is an image that cannot be as the engine says, or of which it says nothing.
var errNoLayers = errors.New("the engine does not tell what an image is made of")

// errUnanswered is a question that failed for a reason that the journal has.
var errUnanswered = errors.New("no answer")

// errEventsEnd is a stream of events that is cut as soon as it begins.
var errEventsEnd = errors.New("the stream of events ends at once, each time")

var errTooLarge = fmt.Errorf("the answer is larger than %d MiB", largestAnswer>>20)

// explain says why a question failed, in a form that stays the same while the
// cause does, and what to do about it.
func (c *connection) explain(q question, err error) (cause, cure string) {
	var transport transportError
	if errors.As(err, &transport) {
		err = transport.cause
	}
	cause = strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	var network *net.OpError
	if errors.As(err, &network) { // without the local port, which changes
		cause = fmt.Sprintf("%s %s: %v", network.Op, c.host, network.Err)
	}

	var tlsRecord tls.RecordHeaderError
	var tlsVerify *tls.CertificateVerificationError
	var syntax *json.SyntaxError
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		cure = "see whether the engine hangs or is busy (docker version)"
		if q.kind == "" {
			cure += "; if it is only slow, raise --docker.timeout"
		}
		return "no answer in time", cure
	case errors.Is(err, context.Canceled):
		return "no answer within the scrape's deadline", "see whether the engine hangs or is busy (docker version); if it is only slow, raise scrape_timeout in Prometheus"
	case errors.As(err, new(tooOldError)):
		return cause, "upgrade the engine to Docker 19.03 or later"
	case errors.As(err, new(noEngineError)):
		return cause, "give the engine's own address with --docker.host; a proxy in between must pass the header on"
	case q.endpoint == "":
		return cause, "say where to measure with --filesystem.path=HOSTPATH=MOUNTPOINT"
	case errors.Is(err, fs.ErrPermission) && c.isLocal():
		return cause, c.permissionCure()
	case errors.Is(err, fs.ErrNotExist) && c.isLocal():
		return cause, "start the engine, give its address with --docker.host, or, in a container, mount its socket (-v /var/run/docker.sock:/var/run/docker.sock)"
	case errors.As(err, new(*net.DNSError)):
		return cause, "give the engine's address with --docker.host, by a name that is known here"
	case errors.Is(err, syscall.ECONNREFUSED):
		return cause, "start the engine at " + c.host + ", or give another address with --docker.host"
	case errors.As(err, &tlsRecord), strings.Contains(cause, "HTTP response to HTTPS client"):
		return cause, "this engine does not speak TLS: leave out --docker.tls-* and DOCKER_CERT_PATH, or use its TLS port"
	case errors.As(err, &tlsVerify):
		return cause, "give the certificate authority of the engine with --docker.tls-ca"
	case strings.Contains(cause, "malformed HTTP response"), strings.Contains(cause, "HTTP request to an HTTPS server"):
		return "the engine expects TLS", "give --docker.tls-ca, --docker.tls-cert and --docker.tls-key (or DOCKER_CERT_PATH)"
	case errors.Is(err, errEventsEnd):
		return cause, "let " + q.endpoint + " through a proxy without a time limit; until then figures of dear lists are older"
	case cerrdefs.IsPermissionDenied(err), cerrdefs.IsUnauthorized(err), strings.Contains(cause, "Method Not Allowed"):
		return "forbidden: " + cause, "allow GET " + q.endpoint + " in the socket proxy or authorization plugin in front of the engine"
	case cerrdefs.IsInvalidArgument(err) && strings.Contains(cause, "client version"):
		return cause, "if it does not pass with the next scrape, update this exporter: it speaks Engine API " + oldestAPI + " to " + newestAPI
	case errors.As(err, &syntax), errors.As(err, &wrongType), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, errTooLarge), errors.Is(err, errIncomplete):
		return "the answer cannot be read: " + cause, "see what answers at " + c.host + q.endpoint + ": a Docker engine, a proxy, something else?"
	case errors.Is(err, errNoLayers):
		return cause, "see what docker image inspect says of it; an image whose content is not there can be pulled again or removed"
	default:
		return cause, "see the engine's own log (journalctl -u docker)"
	}
}

// permissionCure names the group that may use the engine's socket.
func (c *connection) permissionCure() string {
	path := strings.TrimPrefix(c.host, "unix://")
	info, err := os.Stat(path)
	if err != nil {
		return "let this process reach " + path + ": a folder above it is closed to it"
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "let this process write to " + path
	}
	gid := strconv.FormatUint(uint64(stat.Gid), 10)
	group := gid
	if found, err := user.LookupGroupId(gid); err == nil {
		group = found.Name
	}
	return fmt.Sprintf("add this process to the group %s of %s (docker run --group-add %s …, or usermod -aG %s USER)", group, path, gid, group)
}

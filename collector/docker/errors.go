package docker

import (
	"cmp"
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
	"regexp"
	"strings"
	"syscall"

	"docker_buildup_exporter/collector/model"

	cerrdefs "github.com/containerd/errdefs"
)

// transportError is a request without an HTTP answer. Its text hides the cause from the
// Docker client, which would replace some causes by its own advice.
type transportError struct{ cause error }

func (e transportError) Error() string { return "no answer" }
func (e transportError) Unwrap() error { return e.cause }

// tooOldError is an engine that supports only older versions of the API.
type tooOldError struct{ version string }

func (e tooOldError) Error() string {
	return fmt.Sprintf("the engine supports Engine API %s, this exporter %s to %s", e.version, OldestAPI, NewestAPI)
}

// notDockerError is an answer that no engine gives to a ping.
type notDockerError struct {
	status  int
	version string
}

func (e notDockerError) Error() string {
	if e.status != http.StatusOK {
		return fmt.Sprintf("not a Docker engine: the answer to a ping has HTTP status %d", e.status)
	}
	return fmt.Sprintf("not a Docker engine: the Api-Version header of the answer is %q", e.version)
}

// errMalformed is an answer that no engine gives.
var errMalformed = errors.New("no engine answers like this")

// errNoLayers is an inspected image whose layers are missing or impossible.
var errNoLayers = errors.New("the engine does not return the layers of an image")

// IsGone reports whether the engine says that an object does not exist. A 404 of anything
// between the exporter and the engine is not such an answer.
func IsGone(err error) bool {
	if !cerrdefs.IsNotFound(err) {
		return false
	}
	if failure, found := errors.AsType[*model.Failure](err); found {
		err = failure.Err
	}
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "no such container") || strings.Contains(text, "no such image")
}

// IsStreamEnd reports whether an error is the normal end of an event stream, which can
// happen at any time. Whether the engine is gone is the ping's to report.
func IsStreamEnd(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		!errors.Is(err, context.DeadlineExceeded) && (errors.As(err, &network) || errors.As(err, new(transportError)))
}

// problem is why a request failed. It is zero if a function knows no reason.
type problem struct {
	kind   string // the same as long as the cause is the same
	reason string
	hint   string // what to do about it
}

// explain makes a *model.Failure of an error, or nil of nil.
func (c *Client) explain(endpoint string, err error) error {
	if err == nil {
		return nil
	}
	p := c.problemOf(endpoint, err)
	return &model.Failure{Endpoint: endpoint, Kind: p.kind, Reason: model.Line(p.reason), Hint: model.Line(p.hint), Err: err}
}

func (c *Client) problemOf(endpoint string, err error) problem {
	transport, isUnanswered := errors.AsType[transportError](err)
	if isUnanswered {
		err = transport.cause
	}
	reason := c.reasonOf(err)
	return cmp.Or(
		c.serverCertificateProblem(err, reason), c.clientCertificateProblem(reason), c.pingProblem(endpoint, err, reason),
		c.connectionProblem(err, reason, isUnanswered), c.answerProblem(endpoint, err, reason),
	)
}

// reasonOf returns the text of an error without what changes from request to request, like
// the local port, and without the markup of a page.
func (c *Client) reasonOf(err error) string {
	if dial, found := errors.AsType[dialError](err); found {
		return dial.Error()
	}
	if network, found := errors.AsType[*net.OpError](err); found {
		return fmt.Sprintf("%s %s: %v", network.Op, c.Host, network.Err)
	}
	reason := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	if page := htmlPage.FindStringSubmatch(reason); page != nil {
		return strings.TrimRight("the answer is a page for browsers: "+page[1], ": \n")
	}
	return reason
}

// htmlPage matches HTML up to its title.
var htmlPage = regexp.MustCompile(`(?is)<(?:html|!doctype html)\b.*?(?:<title>(.*?)</title>|$)`)

// pingProblem returns why no engine at all can be used at the address.
func (c *Client) pingProblem(endpoint string, err error, reason string) problem {
	switch {
	case errors.As(err, new(tooOldError)):
		return problem{"too old", reason, "upgrade the engine to Docker 19.03 or later"}
	case c.proxy != "" && endpoint == pingEndpoint:
		return problem{"proxy", reason, fmt.Sprintf("requests to %s go through the proxy that %s names: add the host to NO_PROXY, or unset %s", c.Host, c.proxy, c.proxy)}
	case errors.As(err, new(notDockerError)):
		return problem{"not an engine", reason, "something that is no engine answers at " + c.Host + ": set --docker.host to the engine's own address; a proxy in between must allow GET and HEAD /_ping and pass the headers of the answer on"}
	}
	return problem{}
}

// connectionProblem returns what kept a request from the engine, or the answer from here.
// A request that was not answered failed in this process.
func (c *Client) connectionProblem(err error, reason string, isUnanswered bool) problem {
	isLocal := c.IsLocal()
	socket := func() socketFile {
		dial, _ := errors.AsType[dialError](err)
		return inspectSocket(strings.TrimPrefix(cmp.Or(dial.hosts, c.Host), unixPrefix))
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isLocal && errors.Is(err, syscall.EAGAIN):
		return problem{"timeout", "no answer in time", "see whether the engine hangs or is busy (docker version); if it is only slow, raise --docker.timeout"}
	case errors.Is(err, syscall.EMFILE):
		return problem{"open files", reason, "raise the limit of open files of this process (ulimit -n; LimitNOFILE= in a systemd unit; docker run --ulimit nofile=1024)"}
	case errors.Is(err, syscall.ENFILE):
		return problem{"open files", reason, "raise the limit of open files of this machine (sysctl fs.file-max)"}
	case errors.Is(err, fs.ErrPermission) && isLocal:
		return problem{"permission", reason, socket().permissionHint(c.Environment)}
	case errors.Is(err, fs.ErrNotExist) && isLocal:
		return problem{"no socket", reason, missingHint(c.Environment)}
	case errors.As(err, new(*net.DNSError)):
		return problem{"host name", reason, "set --docker.host to the engine's address, by a name that can be resolved here"}
	case errors.Is(err, syscall.ECONNREFUSED) && isLocal:
		return problem{"refused", reason, socket().refusedHint(c.Environment)}
	case errors.Is(err, syscall.ECONNREFUSED):
		return problem{"refused", reason, "start the engine at " + c.Host + " (it listens on TCP only with dockerd --host), or set --docker.host to another address"}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return problem{"unreachable", reason, "see whether this machine can reach " + c.Host + ", or set --docker.host to another address"}
	case errors.As(err, new(tls.RecordHeaderError)), strings.Contains(reason, "HTTP response to HTTPS client"):
		return problem{"TLS", reason, "the engine does not use TLS: remove --docker.tls-* and DOCKER_CERT_PATH, or use its TLS port"}
	case strings.Contains(reason, "malformed HTTP response"), strings.Contains(reason, "HTTP request to an HTTPS server"):
		return problem{"TLS", "the engine expects TLS", "set --docker.tls-ca, --docker.tls-cert and --docker.tls-key (or DOCKER_CERT_PATH)"}
	case isUnanswered && c.scheme == "https" && c.certificate == nil:
		return problem{"closed", reason, "see the engine's log (journalctl -u docker); if it requires a client certificate, set --docker.tls-cert and --docker.tls-key"}
	}
	return problem{}
}

func (c *Client) answerProblem(endpoint string, err error, reason string) problem {
	whatAnswers := "see what answers at " + c.Host + endpoint + ": a Docker engine, a proxy, something else?"
	switch {
	case errors.Is(err, errNoLayers):
		return problem{"no layers", reason, "see docker image inspect; an image whose content is missing can be pulled again or removed"}
	case cerrdefs.IsPermissionDenied(err), cerrdefs.IsUnauthorized(err), strings.Contains(reason, "Method Not Allowed"):
		return problem{"forbidden", "forbidden: " + reason, "allow GET " + endpoint + " in the socket proxy or authorization plugin in front of the engine"}
	case cerrdefs.IsNotFound(err) && !IsGone(err):
		return problem{"not found", reason, "allow GET " + endpoint + " in the proxy in front of the engine, if there is one; otherwise see the engine's log (journalctl -u docker)"}
	case cerrdefs.IsInvalidArgument(err) && strings.Contains(reason, "client version"):
		return problem{"version", reason, "if this persists, update this exporter: it supports Engine API " + OldestAPI + " to " + NewestAPI}
	case strings.Contains(reason, "too many open files"):
		return problem{"open files of the engine", reason, "raise the limit of open files of the engine (LimitNOFILE= in docker.service)"}
	case errors.As(err, new(*json.SyntaxError)), errors.As(err, new(*json.UnmarshalTypeError)), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, errMalformed):
		return problem{"malformed", "the answer cannot be decoded: " + reason, whatAnswers}
	default:
		return problem{"failed", reason, "see the engine's log (journalctl -u docker)"}
	}
}

package docker

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
	"os/user"
	"strconv"
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
type notDockerError struct{ version string }

func (e notDockerError) Error() string {
	return fmt.Sprintf("not a Docker engine: the Api-Version header of the answer is %q", e.version)
}

// errMalformed is a record without an ID, which no engine returns.
var errMalformed = errors.New("a record has no ID or no state")

// errNoLayers is an inspected image whose layers are missing or impossible.
var errNoLayers = errors.New("the engine does not return the layers of an image")

// IsGone reports whether the engine says that an object does not exist. A 404 of anything
// between the exporter and the engine is not such an answer.
func IsGone(err error) bool {
	if !cerrdefs.IsNotFound(err) {
		return false
	}
	var failure *model.Failure
	if errors.As(err, &failure) {
		err = failure.Err
	}
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "no such container") || strings.Contains(text, "no such image")
}

// IsStreamEnd reports whether an error is the normal end of an event stream, which can
// happen at any time. Whether the engine is gone is the ping's to report.
func IsStreamEnd(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, new(*http.MaxBytesError)) ||
		!errors.Is(err, context.DeadlineExceeded) && (errors.As(err, &network) || errors.As(err, new(transportError)))
}

// explain makes a *model.Failure of an error, or nil of nil.
func (c *Client) explain(endpoint string, err error) error {
	if err == nil {
		return nil
	}
	reason, hint := c.classifyError(endpoint, err)
	return &model.Failure{Endpoint: endpoint, Reason: reason, Hint: hint, Err: err}
}

// classifyError returns why a request failed, in words that stay the same while the cause
// does, and what to do about it.
func (c *Client) classifyError(endpoint string, err error) (reason, hint string) {
	var transport transportError
	if errors.As(err, &transport) {
		err = transport.cause
	}
	reason = strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	var network *net.OpError
	if errors.As(err, &network) { // without the local port, which changes
		reason = fmt.Sprintf("%s %s: %v", network.Op, c.Host, network.Err)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time", "see whether the engine hangs or is busy (docker version); if it is only slow, raise --docker.timeout"
	case errors.As(err, new(tooOldError)):
		return reason, "upgrade the engine to Docker 19.03 or later"
	case errors.As(err, new(notDockerError)):
		return reason, "set --docker.host to the engine's own address; a proxy in between must pass the header on"
	case errors.Is(err, errNoLayers):
		return reason, "see docker image inspect; an image whose content is missing can be pulled again or removed"
	}
	if hint := c.connectionHint(err, reason); hint != "" {
		if strings.Contains(hint, "--docker.tls-cert") {
			reason = "the engine expects TLS"
		}
		return reason, hint
	}
	return c.answerHint(endpoint, err, reason)
}

// connectionHint returns what to do about an error that kept the request from the engine,
// or "" if it is none.
func (c *Client) connectionHint(err error, reason string) string {
	var tlsRecord tls.RecordHeaderError
	var tlsVerify *tls.CertificateVerificationError
	switch {
	case errors.Is(err, fs.ErrPermission) && c.IsLocal():
		return c.permissionHint()
	case errors.Is(err, fs.ErrNotExist) && c.IsLocal():
		return "start the engine, set --docker.host to its address, or, in a container, mount its socket (-v /var/run/docker.sock:/var/run/docker.sock)"
	case errors.As(err, new(*net.DNSError)):
		return "set --docker.host to the engine's address, by a name that can be resolved here"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start the engine at " + c.Host + ", or set --docker.host to another address"
	case errors.As(err, &tlsRecord), strings.Contains(reason, "HTTP response to HTTPS client"):
		return "the engine does not use TLS: remove --docker.tls-* and DOCKER_CERT_PATH, or use its TLS port"
	case errors.As(err, &tlsVerify):
		return "set --docker.tls-ca to the certificate authority of the engine"
	case strings.Contains(reason, "malformed HTTP response"), strings.Contains(reason, "HTTP request to an HTTPS server"):
		return "set --docker.tls-ca, --docker.tls-cert and --docker.tls-key (or DOCKER_CERT_PATH)"
	}
	return ""
}

// answerHint returns the reason of and the hint for an error in the answer.
func (c *Client) answerHint(endpoint string, err error, reason string) (string, string) {
	var syntax *json.SyntaxError
	var wrongType *json.UnmarshalTypeError
	var tooLarge *http.MaxBytesError
	switch {
	case cerrdefs.IsPermissionDenied(err), cerrdefs.IsUnauthorized(err), strings.Contains(reason, "Method Not Allowed"):
		return "forbidden: " + reason, "allow GET " + endpoint + " in the socket proxy or authorization plugin in front of the engine"
	case cerrdefs.IsNotFound(err) && !IsGone(err):
		return reason, "allow GET " + endpoint + " in the proxy in front of the engine, if there is one; otherwise see the engine's log (journalctl -u docker)"
	case cerrdefs.IsInvalidArgument(err) && strings.Contains(reason, "client version"):
		return reason, "if this persists, update this exporter: it supports Engine API " + OldestAPI + " to " + NewestAPI
	case errors.As(err, &tooLarge):
		return fmt.Sprintf("the answer is larger than %d MiB", maxAnswer>>20), "see what answers at " + c.Host + endpoint + ": a Docker engine, a proxy, something else?"
	case errors.As(err, &syntax), errors.As(err, &wrongType), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, errMalformed):
		return "the answer cannot be decoded: " + reason, "see what answers at " + c.Host + endpoint + ": a Docker engine, a proxy, something else?"
	default:
		return reason, "see the engine's log (journalctl -u docker)"
	}
}

// permissionHint names the group that may use the engine's socket.
func (c *Client) permissionHint() string {
	path := strings.TrimPrefix(c.Host, "unix://")
	info, err := os.Stat(path)
	if err != nil {
		return "check permissions on the parent directories of " + path
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "allow this process to write to " + path
	}
	gid := strconv.FormatUint(uint64(stat.Gid), 10)
	group := gid
	if found, err := user.LookupGroupId(gid); err == nil {
		group = found.Name
	}
	return fmt.Sprintf("add this process to the group %s of %s (docker run --group-add %s …, or usermod -aG %s USER)", group, path, gid, group)
}

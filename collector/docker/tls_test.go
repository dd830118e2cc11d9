package docker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"docker_buildup_exporter/collector/docker/dockertest"
	"docker_buildup_exporter/collector/model"
)

// certificate is a certificate and its key, also as PEM files ca.pem, cert.pem and key.pem of
// a folder: ca.pem is the authority that has issued it.
type certificate struct {
	tls.Certificate
	dir string
}

func (c certificate) file(name string) string { return filepath.Join(c.dir, name) }

// issue makes a certificate of an authority, or an authority of its own.
func issue(t *testing.T, authority *certificate, change func(*x509.Certificate)) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: authority == nil, BasicConstraintsValid: true,
	}
	if authority == nil {
		template.Subject.CommonName = t.Name()
	}
	change(template)
	parent, signer := template, key
	if authority != nil {
		parent, signer = authority.Leaf, authority.PrivateKey.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c := certificate{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, t.TempDir()}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ca := leaf
	if authority != nil {
		ca = authority.Leaf
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: ca.Raw}, "cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyBytes},
	} {
		write(t, c.file(name), string(pem.EncodeToMemory(block)))
	}
	return c
}

func newAuthority(t *testing.T) certificate { return issue(t, nil, func(*x509.Certificate) {}) }

// forServer makes a certificate one for the server of the tests.
func forServer(c *x509.Certificate) {
	c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
}

func forClient(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }

func expired(c *x509.Certificate) {
	c.NotAfter = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	c.NotBefore = c.NotAfter.AddDate(-1, 0, 0)
}

// serveTLS serves an engine and returns its address.
func serveTLS(t *testing.T, config *tls.Config) string {
	t.Helper()
	server := httptest.NewUnstartedServer(dockertest.NewFake("testdata/api-1.51-graphdriver"))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = config
	server.StartTLS()
	t.Cleanup(server.Close)
	return "tcp://" + server.Listener.Addr().String()
}

// pingTLS returns the failure of a ping, or nil.
func pingTLS(t *testing.T, host string, options TLS, environment Environment) *model.Failure {
	t.Helper()
	c, err := New(Config{Host: host, TLS: options, Environment: environment, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Ping(t.Context())
	var failure *model.Failure
	if err != nil && !errors.As(err, &failure) {
		t.Fatalf("%v is not a Failure", err)
	}
	return failure
}

// checkFailure checks that a failure is one short line that contains a reason and a hint.
func checkFailure(t *testing.T, failure *model.Failure, kind, reason, hint string) {
	t.Helper()
	if failure == nil {
		t.Fatalf("no failure, want the reason %q", reason)
	}
	if failure.Kind != kind || !strings.Contains(failure.Reason, reason) || !strings.Contains(failure.Hint, hint) {
		t.Errorf("got the failure %q: %q\nand the hint %q\nwant %q: %q\nand %q", failure.Kind, failure.Reason, failure.Hint, kind, reason, hint)
	}
	if failure.Reason != model.Line(failure.Reason) || failure.Hint != model.Line(failure.Hint) || strings.HasSuffix(failure.Hint, "…") {
		t.Errorf("the failure is not a short line: %q, %q", failure.Reason, failure.Hint)
	}
}

// TestServerCertificates checks that an engine with a certificate that is not accepted is an
// error that says what is wrong with it.
func TestServerCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	expiredCA := issue(t, nil, expired)
	tests := []struct {
		name               string
		authority          *certificate
		change             func(*x509.Certificate)
		options            TLS
		kind, reason, hint string
	}{
		{"another name", &ca, func(c *x509.Certificate) { c.DNSNames = []string{"docker.example", "other.example"} }, TLS{CA: ca.file("ca.pem")},
			"certificate name", "is for docker.example, other.example, not for 127.0.0.1", "set --docker.host to a name of the certificate"},
		{"another address", &ca, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} }, TLS{CA: ca.file("ca.pem")},
			"certificate name", "is for 192.0.2.1, not for 127.0.0.1", "subject alternative name 127.0.0.1"},
		{"only a common name", &ca, func(c *x509.Certificate) {}, TLS{CA: ca.file("ca.pem")},
			"certificate name", "no subject alternative name", "issue a certificate for the engine with the subject alternative name 127.0.0.1"},
		{"expired", &ca, func(c *x509.Certificate) { forServer(c); expired(c) }, TLS{CA: ca.file("ca.pem")},
			"certificate expired", "the certificate of the engine expired on 2025-03-01T12:00:00Z", "renew it, or correct the clock"},
		{"not yet valid", &ca, func(c *x509.Certificate) {
			forServer(c)
			c.NotBefore = time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)
			c.NotAfter = c.NotBefore.AddDate(1, 0, 0)
		}, TLS{CA: ca.file("ca.pem")}, "certificate expired", "is not valid before 2999-01-01T00:00:00Z", "correct the clock"},
		{"an expired authority", &expiredCA, forServer, TLS{CA: expiredCA.file("ca.pem")},
			"certificate expired", "the authority of the engine's certificate expired on 2025-03-01", "renew it"},
		{"for clients", &ca, func(c *x509.Certificate) { forServer(c); forClient(c) }, TLS{CA: ca.file("ca.pem")},
			"certificate usage", "incompatible key usage", "extendedKeyUsage=serverAuth"},
		{"an authority that the system does not know", &ca, forServer, TLS{Cert: ca.file("cert.pem"), Key: ca.file("key.pem")},
			"certificate authority", "unknown authority", "set --docker.tls-ca to the certificate authority of the engine"},
		{"another authority", &ca, forServer, TLS{CA: other.file("ca.pem")},
			"certificate authority", "unknown authority", other.file("ca.pem") + " is another one"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := issue(t, test.authority, test.change)
			host := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{server.Certificate}})
			failure := pingTLS(t, host, test.options, Environment{})
			checkFailure(t, failure, test.kind, test.reason, test.hint)
			if strings.Contains(failure.Reason, "current time") { // it changes
				t.Errorf("got the reason %q", failure.Reason)
			}
			test.options.Insecure = true
			if failure := pingTLS(t, host, test.options, Environment{}); failure != nil {
				t.Errorf("got %+v with --docker.tls-insecure", failure)
			}
		})
	}
}

// TestClientCertificates checks that an engine that refuses the client certificate is an error
// that says which options to set.
func TestClientCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	server := issue(t, &ca, forServer)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	options := func(c certificate) TLS {
		return TLS{CA: ca.file("ca.pem"), Cert: c.file("cert.pem"), Key: c.file("key.pem")}
	}
	good := issue(t, &ca, forClient)
	foreign := issue(t, &other, forClient)
	old := issue(t, &ca, func(c *x509.Certificate) { forClient(c); expired(c) })
	wrongUse := issue(t, &ca, forServer)
	const kind = "client certificate"
	tests := []struct {
		name         string
		options      TLS
		reason, hint string
	}{
		{"missing", TLS{CA: ca.file("ca.pem")}, "the engine refuses the TLS connection: ", "set --docker.tls-cert and --docker.tls-key to a client certificate that"},
		{"foreign", options(foreign), "the engine refuses the TLS connection: ", foreign.file("cert.pem") + " is not accepted"},
		{"expired", options(old), "the engine refuses the TLS connection: ", "renew the client certificate of --docker.tls-cert and --docker.tls-key (" + old.file("cert.pem") + "): it is valid from 2024-03-01T12:00:00Z to 2025-03-01T12:00:00Z"},
		{"for servers", options(wrongUse), "the engine refuses the TLS connection: ", "extendedKeyUsage=clientAuth"},
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		// The first server names the authorities that it accepts, the second one does not, as
		// some proxies: then the client sends any certificate that it has.
		for _, config := range []*tls.Config{
			{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool},
			{ClientAuth: tls.RequireAnyClientCert, VerifyConnection: func(state tls.ConnectionState) error {
				_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
				return err
			}},
		} {
			config.MaxVersion, config.Certificates = version, []tls.Certificate{server.Certificate}
			host := serveTLS(t, config)
			for _, test := range tests {
				t.Run(test.name+", "+tls.VersionName(version), func(t *testing.T) {
					for range 10 { // the alert and the request race
						checkFailure(t, pingTLS(t, host, test.options, Environment{}), kind, test.reason, test.hint)
					}
				})
			}
			if failure := pingTLS(t, host, options(good), Environment{}); failure != nil {
				t.Errorf("got %+v with a good certificate", failure)
			}
		}
	}
}

// TestConnectionIsClosed checks the hint if an engine closes TLS connections without a reason.
func TestConnectionIsClosed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	failure := pingTLS(t, "tcp://"+listener.Addr().String(), TLS{Insecure: true}, Environment{})
	checkFailure(t, failure, "closed", "", "see the engine's log (journalctl -u docker); if it requires a client certificate, set --docker.tls-cert")
}

// TestAnswerOverTLS checks that an error in an answer is none of the connection.
func TestAnswerOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", "1.51")
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer server.Close()
	failure := pingTLS(t, "tcp://"+server.Listener.Addr().String(), TLS{Insecure: true}, Environment{})
	checkFailure(t, failure, "failed", "500", "see the engine's log (journalctl -u docker)")
}

// TestOneSideWithoutTLS checks the hints if only one of client and engine uses TLS.
func TestOneSideWithoutTLS(t *testing.T) {
	plain := httptest.NewServer(dockertest.NewFake("testdata/api-1.51-graphdriver"))
	defer plain.Close()
	ca := newAuthority(t)
	failure := pingTLS(t, "tcp://"+plain.Listener.Addr().String(), TLS{CA: ca.file("ca.pem")}, Environment{})
	checkFailure(t, failure, "TLS", "", "the engine does not use TLS")
	secure := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Certificate}})
	checkFailure(t, pingTLS(t, secure, TLS{}, Environment{}), "TLS", "the engine expects TLS", "--docker.tls-ca")
	checkFailure(t, pingTLS(t, strings.Replace(secure, "tcp", "http", 1), TLS{}, Environment{}), "TLS", "the engine expects TLS", "--docker.tls-ca")
}

// TestTLSFolders checks that folders with some of the three files are used as the Docker CLI
// uses them, and that a server is verified in any case.
func TestTLSFolders(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	server, client := issue(t, &ca, forServer), issue(t, &ca, forClient)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	config := &tls.Config{Certificates: []tls.Certificate{server.Certificate}}
	open := serveTLS(t, config)
	config = config.Clone()
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, pool
	closed := serveTLS(t, config)
	folder := func(t *testing.T, from certificate, files ...string) string {
		dir := t.TempDir()
		for _, file := range files {
			content, err := os.ReadFile(from.file(file))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, file), string(content))
		}
		return dir
	}
	tests := []struct {
		name  string
		host  string
		files []string
		flags TLS
		want  string // what the error contains; empty: none
	}{
		{"all", closed, []string{"ca.pem", "cert.pem", "key.pem"}, TLS{}, ""},
		{"only the authority", open, []string{"ca.pem"}, TLS{}, ""},
		{"only the authority, and a client certificate is required", closed, []string{"ca.pem"}, TLS{}, "set --docker.tls-cert"},
		{"only the authority, and flags", closed, []string{"ca.pem"}, TLS{Cert: client.file("cert.pem"), Key: client.file("key.pem")}, ""},
		{"no authority", open, []string{"cert.pem", "key.pem"}, TLS{}, "ca.pem"},
		{"no authority, and a flag", closed, []string{"cert.pem", "key.pem"}, TLS{CA: ca.file("ca.pem")}, ""},
		{"no key", open, []string{"ca.pem", "cert.pem"}, TLS{}, "key.pem"},
		{"no certificate", open, []string{"ca.pem", "key.pem"}, TLS{}, "cert.pem"},
		{"the key by a flag", closed, []string{"ca.pem", "cert.pem"}, TLS{Key: client.file("key.pem")}, ""},
		{"empty", open, nil, TLS{}, "ca.pem"},
		{"empty, and not verified", open, nil, TLS{Insecure: true}, ""},
		{"no folder, and half of flags", open, nil, TLS{CA: ca.file("ca.pem"), Cert: client.file("cert.pem")}, "key.pem"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := folder(t, client, test.files...)
			for _, variables := range []map[string]string{{"DOCKER_CERT_PATH": dir}, {"DOCKER_TLS_VERIFY": "1", "DOCKER_CONFIG": dir}} {
				c, err := New(Config{Host: test.host, TLS: test.flags, Environment: Environment{Variables: variables}, Timeout: 10 * time.Second})
				if err == nil {
					_, err = c.Ping(t.Context())
				}
				text := ""
				if err != nil {
					text = err.Error()
				}
				if failure := new(model.Failure); errors.As(err, &failure) {
					text = failure.Hint
				}
				if (err == nil) != (test.want == "") || !strings.Contains(text, test.want) {
					t.Errorf("%v: got %v, want %q", variables, text, test.want)
				}
			}
		})
	}
	failure := pingTLS(t, open, TLS{}, Environment{Variables: map[string]string{"DOCKER_CERT_PATH": folder(t, other, "ca.pem")}})
	checkFailure(t, failure, "certificate authority", "unknown authority", "set --docker.tls-ca")
	if _, err := New(Config{Host: open, TLS: TLS{Cert: client.file("cert.pem")}}); err == nil || !strings.Contains(err.Error(), "--docker.tls-key") {
		t.Errorf("got %v of a certificate without a key", err)
	}
}

// TestProxy checks that a proxy of the environment that gives no answer of an engine is named.
func TestProxy(t *testing.T) {
	answers := []http.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "<!DOCTYPE html>\n<html><head><title>Bad\n Gateway</title></head><body>"+strings.Repeat("x\n", 1<<16)+"</body></html>")
		},
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusProxyAuthRequired) },
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		func(w http.ResponseWriter, _ *http.Request) {},
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	for i, answer := range answers {
		proxy := httptest.NewServer(answer)
		defer proxy.Close()
		for variable, options := range map[string]TLS{"HTTP_PROXY": {}, "http_proxy": {}, "HTTPS_PROXY": {Insecure: true}, "https_proxy": {Insecure: true}} {
			address := strings.Replace(proxy.URL, "://", "://me:secret@", 1)
			environment := Environment{Variables: map[string]string{variable: address}, Proxy: http.ProxyURL(parseURL(t, address))}
			failure := pingTLS(t, "tcp://engine.example:1", options, environment)
			checkFailure(t, failure, "proxy", "", "the proxy that "+variable+" names: add the host to NO_PROXY")
			if i == 0 && len(options.CA) == 0 && !options.Insecure && failure.Reason != "the answer is a page for browsers: Bad Gateway" {
				t.Errorf("got the reason %q", failure.Reason)
			}
			if strings.Contains(failure.Reason+failure.Hint, "secret") {
				t.Errorf("the password of the proxy is in %+v", failure)
			}
		}
	}
}

func parseURL(t *testing.T, text string) *url.URL {
	t.Helper()
	parsed, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

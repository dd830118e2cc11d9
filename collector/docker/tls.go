package docker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/docker/client"
	"github.com/docker/go-connections/tlsconfig"
)

// TLS is how to use TLS with an engine on tcp://. The server's certificate is verified
// unless Insecure. An empty CA means the system's certificate authorities.
type TLS struct {
	CA, Cert, Key string // files, PEM
	Insecure      bool
}

// complete adds the files of the Docker CLI's environment variables, and reports whether
// anything requests TLS. A client certificate that is not there is not used.
func (t TLS) complete(environment Environment) (TLS, bool) {
	dir := environment.Variables[client.EnvOverrideCertPath]
	if dir == "" && environment.Variables[client.EnvTLSVerify] != "" {
		dir = environment.configDir()
	}
	if dir == "" {
		return t, t != (TLS{})
	}
	if t.CA == "" {
		t.CA = filepath.Join(dir, "ca.pem")
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if t.Cert == "" && (t.Key != "" || exists(cert) || exists(key)) {
		t.Cert = cert
	}
	if t.Key == "" && t.Cert != "" {
		t.Key = key
	}
	return t, true
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (t TLS) load() (*tls.Config, error) {
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("TLS files for the engine: --docker.tls-cert and --docker.tls-key need each other")
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

// serverCertificateProblem returns what is wrong with the engine's certificate.
func (c *Client) serverCertificateProblem(err error, reason string) problem {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown) && c.TLS.CA != "":
		return problem{"certificate authority", reason, "set --docker.tls-ca to the certificate authority of the engine: " + c.TLS.CA + " is another one"}
	case errors.As(err, &unknown):
		return problem{"certificate authority", reason, "set --docker.tls-ca to the certificate authority of the engine"}
	case errors.As(err, &name) && name.Certificate != nil && len(namesOf(name.Certificate)) == 0:
		return problem{"certificate name", "the engine's certificate is for no host: it has no subject alternative name",
			"issue a certificate for the engine with the subject alternative name " + name.Host}
	case errors.As(err, &name) && name.Certificate != nil:
		names := strings.Join(namesOf(name.Certificate), ", ")
		return problem{"certificate name", "the engine's certificate is for " + names + ", not for " + name.Host,
			"set --docker.host to a name of the certificate, or issue one with the subject alternative name " + name.Host}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return expiredCertificate(invalid.Cert)
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return problem{"certificate usage", reason, "issue a certificate for the engine that is for servers (extendedKeyUsage=serverAuth)"}
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return problem{"certificate", reason, "issue another certificate for the engine, or set --docker.tls-ca to its authority"}
	}
	return problem{}
}

func namesOf(certificate *x509.Certificate) []string {
	names := certificate.DNSNames
	for _, ip := range certificate.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

func expiredCertificate(certificate *x509.Certificate) problem {
	const clock = ", or correct the clock of this machine"
	whose := "the certificate of the engine"
	if certificate.IsCA {
		whose = "the authority of the engine's certificate"
	}
	if time.Now().Before(certificate.NotBefore) {
		return problem{"certificate expired", whose + " is not valid before " + certificate.NotBefore.UTC().Format(time.RFC3339), "wait until then" + clock}
	}
	return problem{"certificate expired", whose + " expired on " + certificate.NotAfter.UTC().Format(time.RFC3339), "renew it" + clock}
}

// clientCertificateProblem returns why an engine has refused a TLS connection. A client keeps
// a certificate to itself if it is not of an authority that the engine accepts, so the engine
// can miss one that is there.
func (c *Client) clientCertificateProblem(reason string) problem {
	_, alert, isAlert := strings.Cut(reason, "tls: ")
	isAlert = isAlert && strings.HasPrefix(reason, "remote error")
	if !isAlert || !strings.Contains(alert, "certificate") && alert != "handshake failure" && alert != "access denied" {
		return problem{}
	}
	reason = "the engine refuses the TLS connection: " + alert
	switch leaf := c.certificate; {
	case leaf == nil:
		return problem{"client certificate", reason, "set --docker.tls-cert and --docker.tls-key to a client certificate that the engine accepts (or DOCKER_CERT_PATH to a folder with cert.pem and key.pem)"}
	case time.Now().After(leaf.NotAfter) || time.Now().Before(leaf.NotBefore):
		return problem{"client certificate", reason, fmt.Sprintf("renew the client certificate of --docker.tls-cert and --docker.tls-key (%s): it is valid from %s to %s",
			c.TLS.Cert, leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))}
	default:
		return problem{"client certificate", reason, "set --docker.tls-cert and --docker.tls-key to a client certificate (extendedKeyUsage=clientAuth) of the engine's authority, its --tlscacert: " +
			c.TLS.Cert + " is not accepted"}
	}
}

//! TLS as a cluster has it: an authority made anew for each server signs who serves, and who asks.

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
    server::TlsStream,
};

/// As kubeadm calls that of every cluster: two of them differ by their keys alone.
const NAME: &str = "kubernetes";

pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate, and its key in PKCS #8.
pub(super) struct Identity {
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    /// # Panics
    /// If no key can be made.
    #[must_use]
    pub fn of_a_cluster() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = named(NAME, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// As in `ca.crt` of a service account.
    #[must_use]
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", self.certificate.der())
    }

    /// As in `certificate-authority-data` of a kubeconfig.
    #[must_use]
    pub fn data(&self) -> String {
        STANDARD.encode(self.pem())
    }

    pub(super) fn client(&self, name: &str) -> Identity {
        self.issue(named(name, &[]), ExtendedKeyUsagePurpose::ClientAuth)
    }

    pub(super) fn acceptor(&self, asks_for_certificates: bool) -> TlsAcceptor {
        let params = named("kube-apiserver", &["127.0.0.1", "localhost"]);
        let own = self.issue(params, ExtendedKeyUsagePurpose::ServerAuth);
        let builder = ServerConfig::builder();
        let builder = if asks_for_certificates {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.der().clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            builder.with_client_cert_verifier(verifier.expect("a root is there"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.key.serialize_der()));
        let config = builder.with_single_cert(vec![own.certificate.der().clone()], key);
        TlsAcceptor::from(Arc::new(config.expect("the key is that of the certificate")))
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Identity {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity { certificate, key }
    }
}

impl Identity {
    /// As in `client-certificate-data` and `client-key-data`.
    pub(super) fn data(&self) -> [String; 2] {
        let certificate = pem("CERTIFICATE", self.certificate.der());
        let key = pem("PRIVATE KEY", &self.key.serialize_der());
        [certificate, key].map(|text| STANDARD.encode(text))
    }
}

fn named(name: &str, addresses: &[&str]) -> CertificateParams {
    let addresses: Vec<String> = addresses.iter().map(|one| (*one).to_owned()).collect();
    let mut params = CertificateParams::new(addresses).expect("names and addresses");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

pub(super) struct TlsListener {
    pub(super) tcp: TcpListener,
    pub(super) acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    /// Who does not trust this server, or is not trusted, asks nothing.
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = axum::serve::Listener::accept(&mut self.tcp).await;
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

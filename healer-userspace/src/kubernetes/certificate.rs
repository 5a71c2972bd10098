//! What is wrong with a certificate, as a person can mend it.

/// `rustls::Error` says so of the server's: `InvalidCertificate`.
const OF_SERVER: &str = "invalid peer certificate: ";
/// And of an end that the server has made: `AlertReceived`, with the name of an `AlertDescription`.
const BY_SERVER: &str = "received fatal alert: ";

/// Another authority may bear the same name, `kubernetes` with kubeadm: then it is its signature that does not fit.
const FOREIGN: &str = "the API server's certificate was signed by another authority than the one that healer was given: \
                       certificate-authority-data of the kubeconfig (ca.crt of a service account) must be that of this cluster";
const NAMED_OTHERWISE: &str = "the API server's certificate does not name the address that healer asks: ask one that it names, \
                               or give such a name as tls-server-name in the kubeconfig";
const OUT_OF_TIME: &str =
    "renew the API server's certificate, or set the clock of this node: by one of them it is not valid now";
const NOT_TAKEN: &str = "the API server does not take healer's certificate: client-certificate-data and client-key-data of \
                         the kubeconfig must be there, valid, and signed by the authority that it asks for";

/// By the words with which rustls goes on (`rustls::CertificateError`).
const SERVERS: [(&str, &str); 5] = [
    ("UnknownIssuer", FOREIGN),
    ("BadSignature", FOREIGN),
    ("certificate not valid for name", NAMED_OTHERWISE),
    ("certificate expired", OUT_OF_TIME),
    ("certificate not valid yet", OUT_OF_TIME),
];

const ALERTS: [&str; 5] =
    ["BadCertificate", "CertificateExpired", "CertificateRequired", "CertificateUnknown", "UnknownCA"];

/// What helps against an error that says this, if it is one of certificates.
pub(super) fn remedy(says: &str) -> Option<&'static str> {
    if let Some((_, what)) = says.split_once(OF_SERVER) {
        return SERVERS.iter().find_map(|(words, remedy)| what.starts_with(words).then_some(*remedy));
    }
    let (_, alert) = says.split_once(BY_SERVER)?;
    ALERTS.iter().any(|name| alert.starts_with(name)).then_some(NOT_TAKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_it_knows_what_to_mend() {
        for (says, helps) in [
            ("client error (Connect): invalid peer certificate: UnknownIssuer", "certificate-authority-data"),
            ("invalid peer certificate: BadSignature", "certificate-authority-data"),
            (
                "invalid peer certificate: certificate not valid for name \"a\"; certificate is …",
                "tls-server-name",
            ),
            ("invalid peer certificate: certificate expired: verification time 9 (UNIX), …", "clock"),
            ("connection error: received fatal alert: CertificateRequired", "client-certificate-data"),
        ] {
            let remedy = remedy(says).unwrap_or_default();
            assert!(remedy.contains(helps), "{says}: {remedy}");
        }
        for says in ["connection refused", "received fatal alert: ProtocolVersion", ""] {
            assert_eq!(remedy(says), None, "{says}");
        }
    }
}

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::machine::Text;

/// What was wrong with TLS, in a sentence; `None` where it was nothing of TLS.
pub(crate) fn fault(error: &io::Error) -> Option<Text> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "TLS: the first answer is no TLS: this port speaks none".into()
        }
        Error::AlertReceived(alert) => refused(*alert),
        error => format!("TLS: {error}").into(),
    })
}

/// About the certificate that the server showed.
fn certificate(error: &CertificateError) -> Text {
    match error {
        CertificateError::UnknownIssuer => {
            "TLS: the server's certificate was issued by nobody who is trusted here".into()
        }
        // As from a CA that was made anew under its old name.
        CertificateError::BadSignature => {
            "TLS: the server's certificate was issued by nobody who is trusted here (a CA of that name is, with another \
             key)"
                .into()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().take(4).map(String::as_str).collect();
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            format!("TLS: the server's certificate is not for '{}' but for {names}", expected.to_str()).into()
        }
        CertificateError::NotValidForName => "TLS: the server's certificate is not for this name".into(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "TLS: the server's certificate has expired, by the clock of this machine".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "TLS: the server's certificate is not valid yet, by the clock of this machine".into()
        }
        error => match error.to_string() {
            // webpki's word; rustls has none of its own for it.
            text if text.contains("CaUsedAsEndEntity") => {
                "TLS: the server shows the certificate of a CA as its own, which no server may".into()
            }
            text => format!("TLS: the server's certificate is not good: {text}").into(),
        },
    }
}

/// About what the server did not like.
fn refused(alert: AlertDescription) -> Text {
    match alert {
        AlertDescription::CertificateRequired => "TLS: the server wants a client certificate".into(),
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied => {
            format!("TLS: the server does not take the client certificate ({alert:?})").into()
        }
        AlertDescription::CertificateExpired => {
            "TLS: the client certificate has expired, says the server".into()
        }
        alert => format!("TLS: the server refused the handshake ({alert:?})").into(),
    }
}

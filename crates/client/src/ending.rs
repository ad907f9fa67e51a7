//! How a connection ended, as one vocabulary for TLS and QUIC: alerts travel in TLS records here and in close codes there
//! (RFC 9001 4.8: 0x100 plus the alert). Classifies; never retries.

use std::io;

use quinn::{ConnectionError, ReadError, WriteError};
use rustls::AlertDescription;
use sulku_permit::RefusalCode;
use sulku_protocol::{FrameError, quic_code};

use crate::error::{DialError, GatewayFault, SessionError};

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The gateway's TLS said no.
    Alert(AlertDescription),
    /// The gateway closed a QUIC connection with a code of ours.
    Code(u64),
    /// The gateway's certificate does not hold.
    Distrusted(GatewayFault),
    /// What came is neither TLS 1.3 nor QUIC as a gateway speaks it.
    Foreign,
    /// What came is no frame.
    Frame(FrameError),
    /// It broke off.
    Cut(io::Error),
}

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref();
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::of_tls(tls);
        }
        if let Some(ReadError::ConnectionLost(lost)) = inner.and_then(|inner| inner.downcast_ref()) {
            return lost.clone().into();
        }
        if let Some(WriteError::ConnectionLost(lost)) = inner.and_then(|inner| inner.downcast_ref()) {
            return lost.clone().into();
        }
        Self::Cut(error)
    }
}

impl From<ConnectionError> for Ending {
    fn from(error: ConnectionError) -> Self {
        match &error {
            ConnectionError::ConnectionClosed(close) => match alert_in(close.error_code.into()) {
                Some(alert) => Self::Alert(alert),
                None => Self::Cut(error.into()),
            },
            // Ours: what the gateway sent did not hold before our own eyes.
            ConnectionError::TransportError(ours) => alert_in(ours.code.into()).and_then(fault_of).map_or(Self::Foreign, Self::Distrusted),
            ConnectionError::ApplicationClosed(close) => Self::Code(close.error_code.into_inner()),
            ConnectionError::VersionMismatch => Self::Foreign,
            ConnectionError::Reset | ConnectionError::TimedOut | ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
                Self::Cut(error.into())
            }
        }
    }
}

impl Ending {
    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(alert) => Self::Alert(*alert),
            rustls::Error::InvalidCertificate(reason) => {
                Self::Distrusted(fault_of(AlertDescription::from(reason.clone())).unwrap_or(GatewayFault::Unsuitable))
            }
            _ => Self::Foreign,
        }
    }

    /// The stream ended without a word.
    pub(crate) fn silent() -> Self {
        Self::Cut(io::ErrorKind::UnexpectedEof.into())
    }

    /// What it means while no session is open.
    pub(crate) fn before_answer(self, gateway: &str) -> DialError {
        let gateway = gateway.to_owned();
        match self {
            Self::Alert(alert) => match (refusal_of(alert), alert) {
                (Some(code), _) => DialError::Refused(code.into()),
                (None, AlertDescription::InternalError) => DialError::GatewayTrouble { gateway },
                (None, _) => DialError::NotAGateway { gateway },
            },
            Self::Code(code) => match code_of(code) {
                Some(quic_code::BUSY) => DialError::Busy,
                Some(quic_code::REFUSED) => DialError::Unexplained,
                Some(quic_code::PROTOCOL) => DialError::Refused(RefusalCode::ProtocolError.into()),
                _ => DialError::Network { gateway, source: io::ErrorKind::ConnectionAborted.into() },
            },
            Self::Distrusted(fault) => DialError::GatewayCertificate(fault),
            Self::Foreign => DialError::NotAGateway { gateway },
            Self::Frame(error) => DialError::Frame(error),
            Self::Cut(source) => DialError::Network { gateway, source },
        }
    }

    /// What it means to an open session.
    pub(crate) fn within_session(self) -> SessionError {
        let cut = |kind: io::ErrorKind| SessionError::Cut(kind.into());
        match self {
            Self::Alert(alert) => refusal_of(alert).map_or_else(|| cut(io::ErrorKind::ConnectionAborted), |code| SessionError::Refused(code.into())),
            Self::Code(code) if code_of(code) == Some(quic_code::PROTOCOL) => SessionError::Refused(RefusalCode::ProtocolError.into()),
            Self::Code(_) => cut(io::ErrorKind::ConnectionAborted),
            Self::Distrusted(_) | Self::Foreign => cut(io::ErrorKind::InvalidData),
            Self::Frame(error) => SessionError::Frame(error),
            Self::Cut(source) => SessionError::Cut(source),
        }
    }
}

fn code_of(code: u64) -> Option<u32> {
    u32::try_from(code).ok()
}

fn alert_in(code: u64) -> Option<AlertDescription> {
    code.checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok()).map(AlertDescription::from)
}

/// What an alert says about our certificate (RFC 8446 6.2), if it is about that.
fn refusal_of(alert: AlertDescription) -> Option<RefusalCode> {
    use AlertDescription as A;
    Some(match alert {
        A::CertificateRequired | A::NoCertificate => RefusalCode::CertificateMissing,
        A::CertificateExpired => RefusalCode::CertificateExpired,
        A::CertificateRevoked => RefusalCode::CertificateRevoked,
        A::BadCertificateStatusResponse => RefusalCode::RevocationUnknown,
        // An authority that was set up anew keeps its name and has another key: the signature is wrong rather than the issuer unknown.
        A::UnknownCA | A::DecryptError => RefusalCode::CertificateUnknownIssuer,
        A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown => RefusalCode::CertificateInvalid,
        A::AccessDenied => RefusalCode::NotAHolder,
        _ => return None,
    })
}

/// What an alert that we sent says about the gateway's certificate. Both transports are read this way, as QUIC keeps no more than the alert.
fn fault_of(alert: AlertDescription) -> Option<GatewayFault> {
    use AlertDescription as A;
    Some(match alert {
        A::UnknownCA | A::DecryptError => GatewayFault::UnknownIssuer,
        A::CertificateExpired => GatewayFault::Expired,
        A::BadCertificate => GatewayFault::WrongName,
        A::UnsupportedCertificate | A::CertificateRevoked | A::CertificateUnknown | A::AccessDenied => GatewayFault::Unsuitable,
        _ => return None,
    })
}

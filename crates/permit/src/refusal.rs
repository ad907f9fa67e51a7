//! Why a session may not open: a stable code for the peer, a reason for the operator.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{HolderId, PermitId};
use crate::model::Place;

/// Why a session may not open: a code for the peer, a reason for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Refusal {
    /// What the peer is told.
    pub code: RefusalCode,
    /// The permits that a holder of several may choose from; only with [`RefusalCode::ChooseAPermit`].
    pub choices: Vec<PermitId>,
    /// The person, if the certificate stands for one.
    pub holder: Option<HolderId>,
    /// The permit in question, if one is.
    pub permit: Option<PermitId>,
    /// What the operator and the ledger are told.
    pub reason: String,
    /// The line that decided, if one did.
    pub at: Option<Place>,
}

impl Refusal {
    /// A refusal that no permit's line decided.
    pub fn new(code: RefusalCode, reason: impl Into<String>) -> Self {
        Self { code, choices: Vec::new(), holder: None, permit: None, reason: reason.into(), at: None }
    }
}

macro_rules! refusal_codes {
    ($($(#[$doc:meta])* $name:ident $code:literal $advice:literal)*) => {
        /// Every reason for which a session is refused. The names are stable: they stand in entries, tests and messages.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum RefusalCode {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }

        impl RefusalCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What the refused person should do, without anything of the inside.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }
    };
}

refusal_codes! {
    /// No certificate came.
    CertificateMissing "certificate-missing" "present the certificate that you were given (sulku connect --profile FILE)"
    /// The certificate's time has passed or not yet come.
    CertificateExpired "certificate-expired" "renew your certificate with the body that issued it"
    /// A CRL lists the certificate.
    CertificateRevoked "certificate-revoked" "your certificate was withdrawn; ask the environment's operator for a new one"
    /// The authority's CRL is too old to tell whether it lists the certificate.
    RevocationUnknown "revocation-unknown" "the environment can't tell whether your certificate was withdrawn; call its operator"
    /// No configured authority issued the certificate.
    CertificateUnknownIssuer "certificate-unknown-issuer" "use the certificate that this environment's authority gave you"
    /// The certificate is malformed, or not one for a client.
    CertificateInvalid "certificate-invalid" "use the client certificate that you were given, unchanged"
    /// No permit lists the person.
    NotAHolder "not-a-holder" "no permit here lists you; ask the permit's contact person"
    /// The certificate's identities stand for more than one person.
    AmbiguousIdentity "ambiguous-identity" "your certificate stands for more than one person; ask the environment's operator"
    /// She holds several permits and named none.
    ChooseAPermit "choose-a-permit" "name the permit: sulku connect PERMIT"
    /// Several of her sessions are detached and she named none.
    ChooseASession "choose-a-session" "name the session: sulku connect --session ID; or open another: sulku connect --new"
    /// The permit's period has not begun.
    PermitNotYetValid "permit-not-yet-valid" "the permit's period has not begun"
    /// The permit's period has ended.
    PermitExpired "permit-expired" "the permit has ended; apply for an extension with its issuer"
    /// The person's own period has ended.
    HolderExpired "holder-expired" "your own time on this permit has ended; ask the permit's contact person"
    /// The person's own period has not begun.
    HolderNotYetValid "holder-not-yet-valid" "your own time on this permit has not begun"
    /// The person's part in the permit was taken back.
    HolderRevoked "holder-revoked" "your part in this permit was taken back; ask the permit's contact person"
    /// The permit was taken back.
    PermitRevoked "permit-revoked" "the permit was taken back; ask its issuer"
    /// The permit admits nobody for now.
    PermitSuspended "permit-suspended" "the permit is suspended; ask the permit's contact person"
    /// The person's role is one that opens no session.
    RoleOpensNoSession "role-opens-no-session" "your role on this permit opens no session; ask the permit's contact person"
    /// The permit's hours don't include this one.
    OutsideHours "outside-hours" "connect within the hours that the permit allows"
    /// The certificate's authority does not give the assurance that the permit asks for.
    AssuranceTooLow "assurance-too-low" "use the certificate of a stronger authority; ask the environment's operator which"
    /// The host's isolation is weaker than the permit asks for.
    IsolationTooWeak "isolation-too-weak" "this host may not run your permit's workspace; call its operator"
    /// Everything stands still.
    Halted "halted" "the environment is halted; its operator says when it goes on"
    /// The permit does not allow the network she connects from.
    SourceNotAllowed "source-not-allowed" "connect from a network that the permit allows"
    /// She has as many sessions open as the permit allows.
    TooManySessions "too-many-sessions" "close a session that you have open, then try again"
    /// More connections than she may have stand open without a session of hers.
    TooManyConnections "too-many-connections" "close connections that you do not need, then try again in a minute"
    /// The permit's holders together have as many sessions open as it allows.
    PermitFull "permit-full" "all of the permit's sessions are taken; try again when one of them has closed"
    /// The gateway is shutting down.
    Draining "draining" "the environment is being restarted; try again in a minute"
    /// The audit cannot record, so nothing may happen.
    AuditUnavailable "audit-unavailable" "the environment can't keep its records just now; try again later or call its operator"
    /// The host can't build a cell.
    CellUnavailable "cell-unavailable" "the environment can't build your workspace just now; call its operator"
    /// The certificate is no operator's.
    NotAnOperator "not-an-operator" "this needs an operator's certificate"
    /// No such session is open.
    NoSuchSession "no-such-session" "no such session is open; see yours with: sulku sessions"
    /// The workspace may not be destroyed, or not now.
    WorkspaceKept "workspace-kept" "the workspace stays; see why with: sulku workspace list"
    /// The peer broke the protocol.
    ProtocolError "protocol-error" "update your client, or use the one that this environment offers"
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

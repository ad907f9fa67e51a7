//! Cells' packets: a question read, an answer written. Pure.
//!
//! Nothing of a cell's packet but name, type, number and size goes anywhere: no option, no other record, no flag.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder, BinEncodable as _};
use sulku_permit::HostName;
use sulku_plan::naming::QuestionDenied;

/// The longest question: a name, an OPT record and room for what clients pad with (RFC 8467).
pub const QUESTION_BYTES_MAX: usize = 1024;
/// The longest answer over UDP, whatever the client says it takes: fits one packet everywhere.
pub const UDP_BYTES_MAX: u16 = 1232;
/// The longest answer over UDP to a client that says nothing (RFC 1035 section 2.3.4).
const UDP_BYTES_PLAIN: u16 = 512;
/// Records beside the question; a client has at most an OPT and a signature.
const ADDITIONALS_MAX: u16 = 2;
/// The code of "Extended DNS Errors" (RFC 8914 section 2).
const EXTENDED_ERROR: u16 = 15;
/// The header's bytes (RFC 1035 section 4.1.1).
const HEADER_BYTES: usize = 12;

/// A cell's question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    id: u16,
    query: Query,
    recursion_desired: bool,
    /// What the client takes over UDP, where it said so.
    edns: Option<u16>,
}

/// A packet that is no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoQuestion {
    /// An answer, or too little for a header: what gets no answer, so that two servers never talk to each other.
    #[error("the packet is no question")]
    Ignore,
    /// Something else than one question.
    #[error("the packet is a malformed question")]
    Malformed {
        /// The number in its header.
        id: u16,
    },
    /// A NOTIFY, an UPDATE.
    #[error("the packet asks for something else than a name")]
    OtherOperation {
        /// The number in its header.
        id: u16,
    },
}

/// What a cell is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The name's addresses, good for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// The name is there, a record of this type is not.
    Empty,
    /// There is no such name.
    NoSuchName,
    /// It could not be found out, or its addresses could not be let through.
    Failed,
    /// It is not allowed.
    Refused(QuestionDenied),
}

impl Question {
    /// Reads a packet.
    ///
    /// # Errors
    /// It is not one question of the internet's class.
    pub fn parse(packet: &[u8]) -> Result<Self, NoQuestion> {
        let mut decoder = BinDecoder::new(packet);
        let header = Header::read(&mut decoder).map_err(|_| NoQuestion::Ignore)?;
        let (metadata, counts) = (header.metadata, header.counts);
        if metadata.message_type != MessageType::Query {
            return Err(NoQuestion::Ignore);
        }
        let malformed = NoQuestion::Malformed { id: metadata.id };
        if metadata.op_code != OpCode::Query {
            return Err(NoQuestion::OtherOperation { id: metadata.id });
        }
        // Before anything is read: the decoder makes room for as many records as the header says.
        let counts_are_small = counts.queries == 1 && counts.answers == 0 && counts.authorities == 0 && counts.additionals <= ADDITIONALS_MAX;
        if packet.len() > QUESTION_BYTES_MAX || !counts_are_small || metadata.truncation {
            return Err(malformed);
        }
        let query = Query::read(&mut decoder).map_err(|_| malformed)?;
        let (_, edns, _) = Message::read_records(&mut decoder, counts.additionals.into(), true, metadata.op_code).map_err(|_| malformed)?;
        if !decoder.is_empty() || query.query_class() != DNSClass::IN {
            return Err(malformed);
        }
        let edns = edns.map(|edns| edns.max_payload());
        Ok(Self { id: metadata.id, query, recursion_desired: metadata.recursion_desired, edns })
    }

    /// The name, if it is one that hosts have.
    #[must_use]
    pub fn name(&self) -> Option<HostName> {
        let mut text = String::with_capacity(self.query.name().len());
        for label in self.query.name().iter() {
            // A dot in a label would make two of it.
            let label = std::str::from_utf8(label).ok().filter(|label| !label.contains('.'))?;
            text.push_str(label);
            text.push('.');
        }
        text.parse().ok()
    }

    /// The record type.
    #[must_use]
    pub fn record(&self) -> RecordType {
        self.query.query_type()
    }

    /// The record type as findings have it: `A`, `TXT`, `TYPE65400`.
    #[must_use]
    pub fn record_text(&self) -> String {
        match self.record() {
            RecordType::Unknown(number) => format!("TYPE{number}"),
            known => known.to_string(),
        }
    }

    /// The name as findings have it.
    #[must_use]
    pub fn name_text(&self) -> String {
        let labels: Vec<String> = self.query.name().iter().map(text_of).collect();
        bounded(labels.join("."))
    }

    /// The answer's bytes, over UDP no more than the client takes.
    #[must_use]
    pub fn answer(&self, reply: &Reply, over: Over) -> Vec<u8> {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.response_code = match reply {
            Reply::Addresses(..) | Reply::Empty => ResponseCode::NoError,
            Reply::NoSuchName => ResponseCode::NXDomain,
            Reply::Failed => ResponseCode::ServFail,
            Reply::Refused(_) => ResponseCode::Refused,
        };
        message.add_query(self.query.clone());
        if let Reply::Addresses(addresses, ttl_s) = reply {
            message.add_answers(addresses.iter().map(|address| {
                let data = match address {
                    IpAddr::V4(address) => RData::A(A(*address)),
                    IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
                };
                Record::from_rdata(self.query.name().clone(), *ttl_s, data)
            }));
        }
        if self.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_BYTES_MAX);
            if let Reply::Refused(why) = reply {
                edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, extended(*why)));
            }
            message.set_edns(edns);
        }
        let bytes_max = match (over, self.edns) {
            (Over::Tcp, _) => u16::MAX,
            (Over::Udp, None) => UDP_BYTES_PLAIN,
            (Over::Udp, Some(taken)) => taken.clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX),
        };
        let whole = message.to_bytes().ok().filter(|bytes| bytes.len() <= bytes_max.into());
        whole.unwrap_or_else(|| message.truncate().to_bytes().unwrap_or_else(|_| error(self.id, OpCode::Query, ResponseCode::ServFail)))
    }
}

/// How an answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// In one packet.
    Udp,
    /// With its length before it.
    Tcp,
}

impl NoQuestion {
    /// What is sent back, if anything.
    #[must_use]
    pub fn answer(self) -> Option<Vec<u8>> {
        match self {
            Self::Ignore => None,
            Self::Malformed { id } => Some(error(id, OpCode::Query, ResponseCode::FormErr)),
            Self::OtherOperation { id } => Some(error(id, OpCode::Query, ResponseCode::NotImp)),
        }
    }
}

/// A header alone.
fn error(id: u16, operation: OpCode, code: ResponseCode) -> Vec<u8> {
    let message = Message::error_msg(id, operation, code);
    message.to_bytes().unwrap_or_else(|_| vec![0; HEADER_BYTES])
}

/// Why, as an extended error: what a person sees who asks with `dig`.
fn extended(why: QuestionDenied) -> Vec<u8> {
    /// "Prohibited", for this client (RFC 8914 section 4.19).
    const PROHIBITED: u16 = 18;
    let words = match why {
        QuestionDenied::NotListed => "not on this permit's list (egress-not-listed)",
        QuestionDenied::Closed => "closed by this permit (egress-closed)",
        QuestionDenied::LooksLikeATunnel => "looks as if the name carried data (egress-tunnel)",
        QuestionDenied::OtherRecord => "only addresses are told (egress-record)",
        QuestionDenied::TooMany => "asked too often (egress-too-many)",
        QuestionDenied::ForbiddenAddress => "its address is private or not where the permit says (egress-address)",
        QuestionDenied::Malformed => "no question (egress-malformed)",
    };
    [&PROHIBITED.to_be_bytes(), words.as_bytes()].concat()
}

/// A label as findings have it: lower case, other bytes than a host's as `\ddd`.
fn text_of(label: &[u8]) -> String {
    let mut text = String::with_capacity(label.len());
    for byte in label {
        match byte.to_ascii_lowercase() {
            plain @ (b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_') => text.push(plain.into()),
            other => text.push_str(&format!("\\{other:03}")),
        }
    }
    text
}

/// A name that somebody sent, as findings have it: of at most 255 bytes.
#[must_use]
pub fn shown(name: &[u8]) -> String {
    bounded(name.split(|byte| *byte == b'.').map(text_of).collect::<Vec<_>>().join("."))
}

fn bounded(mut text: String) -> String {
    const NAME_TEXT_BYTES_MAX: usize = 255;
    text.truncate(NAME_TEXT_BYTES_MAX);
    text
}

/// The name as resolvers have it.
#[must_use]
pub fn wire_name(name: &HostName) -> Option<Name> {
    Name::from_ascii(format!("{name}.")).ok()
}

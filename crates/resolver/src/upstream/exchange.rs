//! One question to one resolver: a port and a number of its own, the name in letters of random size (draft-vixie-dnsext-dns0x20),
//! over UDP and, where the answer does not fit or somebody guesses, over TCP; over TCP alone where nothing else is carried.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder, BinEncodable as _};
use sulku_plan::naming::Carries;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// What fits one packet everywhere (RFC 9715 section 3.2).
const UDP_BYTES_MAX: u16 = 1232;
/// Packets on the question's own port that are no answer to it. Somebody guesses: what comes by TCP can't be guessed.
const STRANGERS_MAX: usize = 8;
/// Records of one section of an answer.
const RECORDS_MAX: u16 = 1024;

/// A question that could not be put.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Socket(#[from] io::Error),
    /// The answer over TCP is none to this question.
    #[error("the answer is none to this question")]
    Stranger,
    /// The question can't be written.
    #[error("the name can't be asked for")]
    Name,
}

/// A question under way.
#[derive(Debug)]
pub struct Exchange {
    id: u16,
    /// As it was sent, letter for letter.
    query: Query,
}

/// What a packet is to a question.
#[derive(Debug)]
pub enum Heard {
    /// Its answer.
    Answer(Message),
    /// Its answer, but cut off, in letters of another size, or not to be read.
    AskByTcp,
    /// Something else.
    Stranger,
}

impl Exchange {
    /// A new number, and letters of new sizes.
    #[must_use]
    pub fn new(name: &Name) -> Self {
        let mut name = name.clone();
        name.randomize_label_case();
        let id = Message::query().metadata.id;
        Self { id, query: Query::query(name, RecordType::A) }
    }

    /// The question's bytes. Of the cell that asks they say nothing.
    ///
    /// # Errors
    /// The name can't be written.
    pub fn question(&self) -> Result<Vec<u8>, ExchangeError> {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(self.query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX);
        message.set_edns(edns);
        message.to_bytes().map_err(|_| ExchangeError::Name)
    }

    /// Reads a packet that came to the question's own port.
    #[must_use]
    pub fn hear(&self, packet: &[u8]) -> Heard {
        let Ok(header) = Header::read(&mut BinDecoder::new(packet)) else { return Heard::Stranger };
        let (metadata, counts) = (header.metadata, header.counts);
        // Before anything is read: the decoder makes room for as many records as the header says.
        let bounded = counts.queries == 1 && [counts.answers, counts.authorities, counts.additionals].iter().all(|count| *count <= RECORDS_MAX);
        let is_answer = metadata.id == self.id && metadata.message_type == MessageType::Response && metadata.op_code == OpCode::Query;
        if !bounded || !is_answer {
            return Heard::Stranger;
        }
        let mut decoder = BinDecoder::new(packet);
        let asked = Header::read(&mut decoder).ok().and_then(|_| Query::read(&mut decoder).ok());
        let Some(asked) = asked.filter(|asked| {
            *asked.name() == *self.query.name() && asked.query_type() == self.query.query_type() && asked.query_class() == DNSClass::IN
        }) else {
            return Heard::Stranger;
        };
        if metadata.truncation || !asked.name().eq_case(self.query.name()) {
            return Heard::AskByTcp;
        }
        Message::from_bytes(packet).map_or(Heard::AskByTcp, Heard::Answer)
    }
}

/// Asks, over UDP first where it leads there.
///
/// # Errors
/// The resolver could not be asked, or what it said over TCP is no answer.
pub async fn ask(resolver: SocketAddr, carries: Carries, exchange: &mut Exchange) -> Result<Message, ExchangeError> {
    if carries == Carries::Connections {
        return by_tcp(resolver, exchange).await;
    }
    let question = exchange.question()?;
    // The kernel chooses the port, another for each question, and lets in only what comes from this resolver.
    let any = if resolver.is_ipv4() { SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)) } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(&question).await?;
    let mut packet = vec![0; 4096];
    for _ in 0..STRANGERS_MAX {
        let length = socket.recv(&mut packet).await?;
        match exchange.hear(&packet[..length]) {
            Heard::Answer(message) => return Ok(message),
            Heard::AskByTcp => break,
            Heard::Stranger => {}
        }
    }
    drop(socket);
    by_tcp(resolver, exchange).await
}

async fn by_tcp(resolver: SocketAddr, exchange: &mut Exchange) -> Result<Message, ExchangeError> {
    let question = exchange.question()?;
    let mut stream = TcpStream::connect(resolver).await?;
    stream.set_nodelay(true)?;
    let length = u16::try_from(question.len()).map_err(|_| ExchangeError::Name)?;
    stream.write_all(&[&length.to_be_bytes(), question.as_slice()].concat()).await?;
    let mut packet = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut packet).await?;
    // A resolver that does not keep the letters' sizes is heard here, where nobody can guess.
    let mut plain = exchange.hear(&packet);
    if matches!(plain, Heard::AskByTcp) {
        plain = Message::from_bytes(&packet).ok().filter(|message| !message.metadata.truncation).map_or(Heard::Stranger, Heard::Answer);
    }
    match plain {
        Heard::Answer(message) => Ok(message),
        _ => Err(ExchangeError::Stranger),
    }
}

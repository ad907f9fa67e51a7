//! The end of a connection over TCP, with real sockets.

use std::net::Ipv4Addr;
use std::time::Duration;

use sulku_protocol::quic_code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::connection::Frames;
use crate::transport::Writer;

/// Who is told the last word while she still types hears it: the kernel would reset what is closed with bytes unread.
#[tokio::test]
async fn a_peer_that_still_sends_hears_the_last_word() -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mut peer = TcpStream::connect(listener.local_addr()?).await?;
    let (stream, _) = listener.accept().await?;
    let gateway = tokio::spawn(async move {
        let (reader, writer) = tokio::io::split(stream);
        let (frames, mut writer) = (Frames::new(Box::new(reader)), Writer::Tls(Box::new(writer)));
        writer.send(b"the last word").await?;
        writer.end(quic_code::DONE).await;
        frames.hear_out().await;
        std::io::Result::Ok(())
    });
    for _ in 0..50 {
        peer.write_all(&[b'x'; 256]).await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).await?;
    assert_eq!(heard, b"the last word");
    drop(peer);
    gateway.await?
}

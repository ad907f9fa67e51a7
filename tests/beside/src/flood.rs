//! Much output: how fast it comes, and how soon Ctrl-C is heard in it by who reads slowly.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bench::{Bench, Size};
use crate::row::{Goal, Row, ms};
use crate::side::{Session, Side};

/// Lines as wide as a terminal, without end.
const FLOODS: &str = "exec yes a-line-of-79-characters-is-what-a-terminal-of-80-columns-shows-of-a-program-s-log";
/// And then a word, once Ctrl-C has ended it.
const FLOODS_THEN: &str = "trap : INT; yes a-line-of-79-characters-is-what-a-terminal-of-80-columns-shows-of-a-program-s-log; echo; echo it-heard";
const HEARD: &[u8] = b"it-heard";
const CTRL_C: u8 = 3;
/// Until buffers are full and rates are those that last.
const WARM_UP: Duration = Duration::from_millis(500);
/// What is counted.
const COUNTED: Duration = Duration::from_secs(2);
/// A terminal in a browser, or a slow network.
const SLOW_BYTES_PER_S: f64 = 2e6;
/// Read slowly for so long before Ctrl-C: every buffer on the way is full.
const SLOW_FOR: Duration = Duration::from_secs(4);
const HEARD_WITHIN: Duration = Duration::from_secs(60);

async fn rate(side: &Side) -> anyhow::Result<f64> {
    let mut session = side.open(Some(FLOODS)).await?;
    let begun = Instant::now();
    let (mut bytes, mut since) = (0, None);
    let took = loop {
        let output = session.output().await?.context("a flood ended by itself")?;
        session.shown(output.len());
        let now = Instant::now();
        match since {
            None if now - begun >= WARM_UP => since = Some(now),
            None => {}
            Some(since) => {
                bytes += output.len();
                if now - since >= COUNTED {
                    break now - since;
                }
            }
        }
    };
    session.close_flooding().await?;
    Ok(bytes as f64 / took.as_secs_f64() / 1e6)
}

/// How fast a flood comes.
///
/// # Errors
/// A session breaks.
pub async fn rates(bench: &mut Bench, size: Size) -> anyhow::Result<Vec<Row>> {
    let sides = [bench.tls()?, bench.quic()?, Side::Ssh(bench.ecdsa.clone()), Side::SshRecorded(bench.ecdsa.clone())];
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for _ in 0..size.rounds {
        for (side, rates) in sides.iter().zip(&mut rounds) {
            rates.push(rate(side).await?);
        }
        bench.unrest.sample();
    }
    let unrest = bench.unrest.take();
    let [tls, quic, ssh, recorded] = rounds;
    let row = |transport, goal, ours: &Vec<f64>, peer: &str, theirs: &Vec<f64>| Row {
        metric: format!("flood of output, {transport}"),
        peer: Some(peer.to_owned()),
        unit: "MB/s",
        goal,
        ours: ours.clone(),
        theirs: theirs.clone(),
        unrest,
    };
    Ok(vec![
        row("TLS", Goal::AtLeast(1.0), &tls, "OpenSSH", &ssh),
        row("QUIC", Goal::AtLeast(1.0), &quic, "OpenSSH", &ssh),
        row("TLS", Goal::Told, &tls, "OpenSSH + script", &recorded),
        row("QUIC", Goal::Told, &quic, "OpenSSH + script", &recorded),
    ])
}

/// Whoever reads so many bytes a second and no more.
struct SlowReader {
    next: tokio::time::Instant,
}

impl SlowReader {
    fn new() -> Self {
        Self { next: tokio::time::Instant::now() }
    }

    async fn read(&mut self, bytes: usize) {
        self.next = self.next.max(tokio::time::Instant::now()) + Duration::from_secs_f64(bytes as f64 / SLOW_BYTES_PER_S);
        tokio::time::sleep_until(self.next).await;
    }
}

/// Whether the word is in what was shown, of which the end is kept.
fn heard(kept: &mut Vec<u8>, bytes: &[u8]) -> bool {
    kept.extend(bytes);
    let found = kept.windows(HEARD.len()).any(|bytes| bytes == HEARD);
    kept.drain(..kept.len().saturating_sub(HEARD.len()));
    found
}

async fn interrupted(mut session: Session) -> anyhow::Result<f64> {
    let (mut reader, mut kept) = (SlowReader::new(), Vec::new());
    let begun = Instant::now();
    let mut pressed = None;
    loop {
        let output = session.output().await?.context("it ends before it hears Ctrl-C")?;
        reader.read(output.len()).await;
        session.shown(output.len());
        match pressed {
            None if begun.elapsed() >= SLOW_FOR => {
                pressed = Some(Instant::now());
                session.types(&[CTRL_C]).await?;
            }
            None => {}
            Some(pressed) if heard(&mut kept, &output) => {
                let took = pressed.elapsed();
                session.close().await?;
                return Ok(ms(took));
            }
            Some(pressed) if pressed.elapsed() > HEARD_WITHIN => bail!("Ctrl-C is not heard"),
            Some(_) => {}
        }
    }
}

/// With `ssh` itself, which reports to the server what it has written out, and not what it has read: another client would read ahead.
async fn ssh_interrupted(bench: &Bench) -> anyhow::Result<f64> {
    let mut command = tokio::process::Command::from(bench.sshd_ecdsa.client(FLOODS_THEN)?);
    let mut ssh = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    let (mut input, mut output) = (ssh.stdin.take().context("a pipe")?, ssh.stdout.take().context("a pipe")?);
    let (mut reader, mut kept) = (SlowReader::new(), Vec::new());
    let (mut pressed, mut bytes) = (None, vec![0; 32 * 1024]);
    let mut begun = None;
    loop {
        let read = output.read(&mut bytes).await?;
        let output = bytes.get(..read).filter(|output| !output.is_empty()).context("ssh ends before it hears Ctrl-C")?;
        let begun = *begun.get_or_insert_with(Instant::now);
        reader.read(read).await;
        match pressed {
            None if begun.elapsed() >= SLOW_FOR => {
                pressed = Some(Instant::now());
                input.write_all(&[CTRL_C]).await?;
                input.flush().await?;
            }
            None => {}
            Some(pressed) if heard(&mut kept, output) => {
                let took = Instant::elapsed(&pressed);
                ssh.kill().await?;
                return Ok(ms(took));
            }
            Some(pressed) if Instant::elapsed(&pressed) > HEARD_WITHIN => bail!("Ctrl-C is not heard"),
            Some(_) => {}
        }
    }
}

/// How soon Ctrl-C is heard.
///
/// # Errors
/// A session breaks, or never hears it.
pub async fn interrupts(bench: &mut Bench, size: Size) -> anyhow::Result<Vec<Row>> {
    let (mut tls, mut quic, mut ssh) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..size.rounds {
        tls.push(interrupted(bench.tls()?.open(Some(FLOODS_THEN)).await?).await?);
        quic.push(interrupted(bench.quic()?.open(Some(FLOODS_THEN)).await?).await?);
        ssh.push(ssh_interrupted(bench).await?);
        bench.unrest.sample();
    }
    let unrest = bench.unrest.take();
    let row = |transport, ours| Row {
        metric: format!("Ctrl-C in a flood, read at 2 MB/s, {transport}"),
        peer: Some("OpenSSH".to_owned()),
        unit: "ms",
        goal: Goal::AtMost(0.05),
        ours,
        theirs: ssh.clone(),
        unrest,
    };
    Ok(vec![row("TLS", tls), row("QUIC", quic)])
}

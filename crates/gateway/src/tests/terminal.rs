use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::terminal::{Shown, Terminal};

fn terminal() -> (Terminal, std::fs::File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let slave = ptsname(&master, Vec::new()).expect("a name");
    let slave = std::fs::File::options().read(true).write(true).open(slave.to_str().expect("text")).expect("opened");
    (Terminal::new(master).expect("usable"), slave)
}

#[tokio::test]
async fn a_terminal_shows_what_is_written_inside_and_ends_when_nobody_is_left() {
    use std::io::Write;
    let (terminal, mut inside) = terminal();
    inside.write_all(b"hello\n").expect("written");
    assert!(matches!(terminal.read(100).await, Ok(Shown::Bytes(bytes)) if bytes == b"hello\r\n"));
    drop(inside);
    assert!(matches!(terminal.read(100).await, Ok(Shown::Ended)));
}

#[tokio::test]
async fn a_terminal_gives_no_more_than_there_is_room_for() {
    use std::io::Write;
    let (terminal, mut inside) = terminal();
    inside.write_all(&[b'x'; 1000]).expect("written");
    let mut seen = 0;
    while seen < 1000 {
        let Ok(Shown::Bytes(bytes)) = terminal.read(64).await else { panic!("the terminal is open") };
        assert!(bytes.len() <= 64);
        seen += bytes.len();
    }
}

#[tokio::test]
async fn what_is_typed_arrives_and_a_size_is_kept() {
    use std::io::Read;
    let (terminal, mut inside) = terminal();
    assert_eq!(terminal.write(b"ls\r").await.expect("typed"), 3);
    let mut line = [0; 3];
    inside.read_exact(&mut line).expect("read");
    assert_eq!(&line, b"ls\n");
    terminal.resize(132, 43).expect("resized");
    let size = rustix::termios::tcgetwinsize(&inside).expect("a size");
    assert_eq!((size.ws_col, size.ws_row), (132, 43));
}

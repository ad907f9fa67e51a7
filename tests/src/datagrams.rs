//! A way to the gateway over UDP whose far end can change its address, as a computer's does that goes to another network.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sulku_stage::{Person, Stage};

use crate::terminal::by_way_of;

/// Two addresses of this host: the gateway hears from the one that is in use.
pub struct Datagrams {
    port: u16,
    used: Arc<Mutex<usize>>,
}

impl Datagrams {
    /// A way to this port of this host.
    ///
    /// # Errors
    /// There are no sockets to be had.
    pub fn to(gateway: u16) -> anyhow::Result<Self> {
        let near = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        let port = near.local_addr()?.port();
        let far = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)].map(|address| UdpSocket::bind((address, 0)).map(Arc::new));
        let [first, second] = far;
        let far = [first?, second?];
        let client = Arc::new(Mutex::new(None::<SocketAddr>));
        for socket in &far {
            let (socket, near, client) = (Arc::clone(socket), Arc::clone(&near), Arc::clone(&client));
            std::thread::spawn(move || {
                let mut packet = [0; 65_535];
                while let Ok(length) = socket.recv(&mut packet) {
                    let to = *client.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(to) = to {
                        let _lost = near.send_to(&packet[..length], to);
                    }
                }
            });
        }
        let used = Arc::new(Mutex::new(0));
        let chosen = Arc::clone(&used);
        std::thread::spawn(move || {
            let mut packet = [0; 65_535];
            while let Ok((length, from)) = near.recv_from(&mut packet) {
                *client.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
                let chosen = *chosen.lock().unwrap_or_else(PoisonError::into_inner);
                let _lost = far[chosen].send_to(&packet[..length], (Ipv4Addr::LOCALHOST, gateway));
            }
        });
        Ok(Self { port, used })
    }

    /// From now on the gateway hears from another address.
    pub fn move_away(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = 1;
    }

    /// And from now on from the first one again.
    pub fn move_back(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    }

    /// The person's profile by this way.
    ///
    /// # Errors
    /// Her profile can't be read or another written beside it.
    pub fn profile(&self, stage: &Stage, person: Person) -> anyhow::Result<PathBuf> {
        by_way_of(self.port, stage, person)
    }
}

/// How long nothing may be heard: many times what an answer takes.
pub const SILENCE: Duration = Duration::from_secs(3);

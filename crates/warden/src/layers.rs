//! The layers that a cell is held by, and a way to build one with some of them missing, so that a test can show of each what it stops.
//!
//! The program `sulku-warden` builds every cell with all of them: no argument, variable, configuration key or order leaves one out. A program that
//! links this library can, by [`crate::run_without`]; the only one that does is the test `tests/isolation`, which `tests/architecture.rs` holds to.

/// One of the layers that hold a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// Only what the plan names of the host's files is there, and read-only. Without: the host's root is there too, at `/host`, and
    /// nothing is read-only.
    Files,
    /// A process namespace, and a `/proc` that shows it alone. Without: the host's processes.
    Processes,
    /// A namespace for System V's and POSIX's message queues and shared memory. Without: the host's.
    Ipc,
    /// A network of its own. Without: the host's.
    Network,
    /// A workspace and datasets of which nothing that others own can be changed. Without: as the files' modes have it.
    Owners,
    /// A user of its own, without powers. Without: root.
    Users,
    /// Landlock.
    Landlock,
    /// seccomp.
    Seccomp,
    /// Limits of memory, processes and open files.
    Limits,
}

impl Layer {
    /// All of them.
    pub const ALL: [Self; 9] =
        [Self::Files, Self::Processes, Self::Ipc, Self::Network, Self::Owners, Self::Users, Self::Landlock, Self::Seccomp, Self::Limits];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Processes => "processes",
            Self::Ipc => "ipc",
            Self::Network => "network",
            Self::Owners => "owners",
            Self::Users => "users",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Limits => "limits",
        }
    }
}

/// The layers that cells are built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    missing: u16,
}

impl Layers {
    /// Every one.
    pub const ALL: Self = Self { missing: 0 };

    /// Every one but these.
    #[must_use]
    pub fn without(missing: &[Layer]) -> Self {
        Self { missing: missing.iter().fold(0, |bits, layer| bits | 1 << (*layer as u16)) }
    }

    /// Whether cells are built with it.
    #[must_use]
    pub const fn has(self, layer: Layer) -> bool {
        self.missing & (1 << (layer as u16)) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_missing_only_where_it_is_named() {
        assert!(Layer::ALL.iter().all(|layer| Layers::ALL.has(*layer)));
        for one in Layer::ALL {
            let without = Layers::without(&[one]);
            assert!(Layer::ALL.iter().all(|layer| without.has(*layer) == (*layer != one)), "{}", one.name());
        }
    }
}

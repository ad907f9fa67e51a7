//! Values as a diff says them.

use std::time::Duration;

use jiff::Timestamp;
use sulku_permit::{Dataset, Destination, Image, Role};

pub(super) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    match items.as_slice() {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

pub(super) fn roles(roles: &[Role]) -> String {
    list(roles.iter().map(|role| role.name()))
}

pub(super) fn image(image: &Image) -> String {
    image.digest.map_or_else(|| image.name.to_string(), |digest| format!("{} {digest}", image.name))
}

pub(super) fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

pub(super) fn end(end: Option<Timestamp>) -> String {
    end.map_or_else(|| "the permit's end".to_owned(), time)
}

pub(super) fn length(length: Duration) -> String {
    let seconds = length.as_secs();
    match (seconds % 3_600, seconds % 60) {
        (0, _) => format!("{} h", seconds / 3_600),
        (_, 0) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 40) => format!("{} TiB", bytes >> 40),
        _ if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ => format!("{} KiB", bytes >> 10),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "it is given to map")]
pub(super) fn number(number: &Option<u32>) -> String {
    number.map_or_else(|| "no bound".to_owned(), |number| number.to_string())
}

pub(super) fn destination(destination: &Destination) -> String {
    let check = destination.to.names().map(|names| {
        let within = if names.within.is_empty() { String::new() } else { format!(" within {}", list(&names.within)) };
        format!(", {}{within}", names.check.name())
    });
    let until = destination.until.map(|until| format!(" until {}", time(until))).unwrap_or_default();
    let most = [destination.budget.bytes.map(bytes), destination.budget.connections.map(|rate| format!("{rate} connections"))];
    let most: Vec<_> = most.into_iter().flatten().collect();
    let most = if most.is_empty() { String::new() } else { format!(", at most {}", list(&most)) };
    format!("{:?} ({} at {}{}{until}{most})", destination.name, destination.to, list(&destination.ports), check.unwrap_or_default())
}

pub(super) fn dataset(dataset: &Dataset) -> String {
    let persons = dataset.persons.map(|persons| format!(", about {persons} persons")).unwrap_or_default();
    format!("{:?} at {}{persons}", dataset.name, dataset.mounted_at.display())
}

//! The courier as a process of its own, for the tests: gives up root and confines itself as `sulkud courier` does.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args_os().nth(1).ok_or("the configuration's path is missing")?;
    Ok(sulku_courier::run(std::path::Path::new(&file))?)
}

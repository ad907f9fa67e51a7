//! Workspaces whose system is an image: what is mounted is what was signed, or nothing.

mod stage;

use std::fs;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};
use stage::{Options, Stage, eventually, launch};
use sulku_audit::Event;

/// Programs that the image has; the host's other ones it has not.
const PROGRAMS: &[&str] = &["bash", "cat", "ls", "touch", "stat", "sleep"];

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}; make needs-test"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A system of a few programs and their libraries, laid out as Debian does, with a note in it.
fn make(folder: &Path, note: &str) -> std::path::PathBuf {
    let tree = folder.join("tree");
    let _none_yet = fs::remove_dir_all(&tree);
    for made in ["usr/bin", "usr/lib", "usr/lib64", "opt/tool", "etc"] {
        fs::create_dir_all(tree.join(made)).expect("a folder");
    }
    for (link, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        std::os::unix::fs::symlink(target, tree.join(link)).expect("a symlink");
    }
    for program in PROGRAMS {
        let path = format!("/usr/bin/{program}");
        fs::copy(&path, tree.join("usr/bin").join(program)).expect("a program");
        let libraries = String::from_utf8(Command::new("/usr/bin/ldd").arg(&path).output().expect("ldd").stdout).expect("text");
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            let place = tree.join(library.trim_start_matches('/'));
            fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
            fs::copy(library, place).expect("a library");
        }
    }
    fs::write(tree.join("opt/tool/note"), note).expect("written");
    fs::write(tree.join("etc/os-release"), "NAME=image\n").expect("written");
    // What it leads to lies in the image, where there is no such file, and not on the host.
    std::os::unix::fs::symlink("/etc/passwd", tree.join("etc/magic")).expect("a symlink");
    tree
}

fn squash(tree: &Path, image: &Path) {
    let _none_yet = fs::remove_file(image);
    run("/usr/bin/mksquashfs", &[&tree.to_string_lossy(), &image.to_string_lossy(), "-all-root", "-no-progress", "-noappend", "-quiet"]);
}

fn digest(file: &Path) -> String {
    Sha256::digest(fs::read(file).expect("a file")).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A policy whose first permit has the image of this digest.
fn sign(stage: &Stage, digest: &str) {
    let image = format!("schema = 1\n[image]\nname = \"system\"\ntitle = \"A system\"\nsystem = \"sha256:{digest}\"\n");
    fs::write(stage.path("images/system.toml"), image).expect("written");
    let text = fs::read_to_string(stage.path("permits/one.toml")).expect("a permit").replace("image = \"system\"\n", "");
    stage.put_permit("one.toml", &text.replace("name = \"ws-one\"\n", "name = \"ws-one\"\nimage = \"system\"\n"));
}

fn staged(folder: &Path) -> (Stage, String) {
    let image = folder.join("image");
    squash(&make(folder, "first"), &image);
    let stage = Stage::with(Options { image: Some(image.clone()), ..Options::default() });
    let digest = digest(&image);
    sign(&stage, &digest);
    (stage, digest)
}

fn refusal(stage: &mut Stage) -> String {
    let opening = stage.opening("one.toml", None);
    let receipt = stage.ledger.keep(&opening);
    stage.gateway.order(&launch(receipt));
    stage.gateway.refusal()
}

/// The system of a cell is the image that its policy names, read-only, and the entry says which.
#[test]
fn a_cell_has_the_image_for_its_system_and_nothing_of_the_hosts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut stage, digest) = staged(folder.path());
    let said = stage.shell("one.toml", "cat /etc/os-release /opt/tool/note; echo; ls -1 /usr/bin; echo \"$HOME\"; cat /etc/passwd");
    let programs: Vec<_> = said.lines().skip(2).take(PROGRAMS.len()).map(str::trim).collect();
    let mut expected = PROGRAMS.to_vec();
    expected.sort_unstable();
    assert_eq!(programs, expected, "{said}");
    assert!(said.starts_with("NAME=image\r\nfirst\r\n") && said.contains("/workspace") && said.contains("maija:x:1000"), "{said}");
    let walls = "touch /usr/bin/x 2>&1; touch /opt/x 2>&1; cat /etc/magic 2>&1; [ -e /host ] || echo no host; touch ~/mine && echo mine";
    let said = stage.shell("one.toml", walls);
    assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
    assert!(said.contains("no host") && said.contains("mine"), "{said}");
    let named = stage.ledger.entry("the image", |draft| match &draft.event {
        Event::CellLaunched { image: Some(image), .. } => Some(image.clone()),
        _ => None,
    });
    assert_eq!(named, format!("system sha256:{digest}"));
    assert!(stage.shell("two.toml", "ls /usr/bin | cat").lines().count() > 100, "control: another permit has the host's");
    // Programs of the image are seen as any other's are.
    stage.ledger.entry("a programme", |draft| match &draft.event {
        event @ Event::ProgramRun { .. } if format!("{event:?}").contains("/usr/bin/touch") => Some(()),
        _ => None,
    });
}

/// A file that is not the one that was signed opens no session; who is in has what was signed.
#[test]
fn a_changed_image_opens_no_session_until_it_is_signed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut stage, first) = staged(folder.path());
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", "cat /opt/tool/note; read line; cat /opt/tool/note; sleep 600"]));
    running.read_until("first");
    let other = folder.path().join("other");
    squash(&make(folder.path(), "other"), &other);
    // As an operator does it: beside it, then in its place.
    let (place, beside) = (stage.path("system.image"), stage.path("system.image.new"));
    let replace = |by: &Path| {
        fs::copy(by, &beside).expect("copied");
        fs::rename(&beside, &place).expect("renamed");
    };
    replace(&other);
    let refused = refusal(&mut stage);
    assert!(refused.contains("the image system can't be used") && refused.contains(&digest(&other)) && refused.contains(&first), "{refused}");
    assert!(refused.contains("sign a policy"), "{refused}");
    running.write("go on\n");
    running.read_until("first");
    sign(&stage, &digest(&other));
    assert_eq!(stage.shell("one.toml", "cat /opt/tool/note"), "other");
    // One byte, in place: the time of the change gives it away.
    let mut bytes = fs::read(&place).expect("an image");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&place, &bytes).expect("written");
    assert!(refusal(&mut stage).contains(&digest(&place)));
    replace(&folder.path().join("image"));
    sign(&stage, &first);
    assert_eq!(stage.shell("one.toml", "cat /opt/tool/note"), "first");
    stage.end(&running, "holder-left");
}

/// What can't be an image is refused in words, and nothing of it is parsed by the kernel.
#[test]
fn what_is_no_image_is_refused_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut stage, digest_of_it) = staged(folder.path());
    let place = stage.path("system.image");
    let good = fs::read(&place).expect("an image");
    fs::write(&place, "not a file system").expect("written");
    sign(&stage, &digest(&place));
    assert!(refusal(&mut stage).contains("neither squashfs nor erofs"));
    fs::remove_file(&place).expect("removed");
    assert!(refusal(&mut stage).contains("No such file"));
    fs::write(&place, &good).expect("written");
    run("/bin/chmod", &["o+w", &place.to_string_lossy()]);
    assert!(refusal(&mut stage).contains("root alone can write"));
    run("/bin/chmod", &["o-w", &place.to_string_lossy()]);
    sign(&stage, &digest_of_it);
    assert_eq!(stage.shell("one.toml", "cat /opt/tool/note"), "first", "control");
    let unknown = fs::read_to_string(stage.path("images/system.toml")).expect("an image").replace("\"system\"", "\"elsewhere\"");
    fs::write(stage.path("images/elsewhere.toml"), unknown).expect("written");
    stage.change_permit("one.toml", "image = \"system\"", "image = \"elsewhere\"");
    assert!(refusal(&mut stage).contains("write its [[image]] into warden.toml"));
    drop(stage);
    eventually("no device is left", || {
        let devices = fs::read_dir("/sys/block").expect("block devices").flatten();
        let files: Vec<_> = devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok()).collect();
        (!files.iter().any(|file| file.contains("system.image"))).then_some(())
    });
}

//! A store of signed revisions, as `sulku policy apply` makes it: the folder of permits is the working copy.

use std::fs;
use std::path::{Path, PathBuf};

use sulku_policy::{Digest, Draft, File, FileLine, Revision, Signed, SigningKey, Tree, TreePath};

/// A key on P-256 that is used nowhere else, and another one that no warden knows.
const KEY: &str = "-----BEGIN EC PRIVATE KEY-----
MDECAQEEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBoAoGCCqGSM49
AwEH
-----END EC PRIVATE KEY-----
";
const OTHER_KEY: &str = "-----BEGIN EC PRIVATE KEY-----
MDECAQEEIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICoAoGCCqGSM49
AwEH
-----END EC PRIVATE KEY-----
";
pub const OPERATOR: &str = "onni";

/// Whose key signs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Operator,
    Stranger,
}

pub struct Revisions {
    folder: PathBuf,
    pub store: PathBuf,
}

impl Revisions {
    pub fn new(folder: &Path) -> Self {
        let store = folder.join("policy");
        for name in ["objects", "revisions"] {
            fs::create_dir_all(store.join(name)).expect("a folder");
        }
        Self { folder: folder.to_owned(), store }
    }

    /// The lines of the warden's configuration.
    pub fn config(&self) -> String {
        let key = SigningKey::from_pem(KEY).expect("a key");
        format!("\n[[operator]]\nid = \"{OPERATOR}\"\nkey = \"{}\"\n", key.public())
    }

    /// The files of the working copy, each with its path in it.
    pub fn files(&self) -> Vec<(String, String)> {
        let folders = ["images", "permits"].map(|folder| fs::read_dir(self.folder.join(folder)).expect("a folder").map(move |entry| (folder, entry)));
        let files = folders.into_iter().flatten().map(|(folder, entry)| {
            let path = entry.expect("an entry").path();
            (format!("{folder}/{}", path.file_name().expect("a name").to_string_lossy()), fs::read_to_string(&path).expect("a file"))
        });
        files.collect()
    }

    /// A revision of what the working copy has now.
    pub fn apply(&self, by: By) -> u64 {
        let files = self.files();
        let tree: Tree = files.iter().map(|(path, text)| (path.parse::<TreePath>().expect("a path"), File::new(text))).collect();
        for (_, file) in tree.iter() {
            self.put(&self.store.join("objects").join(file.sha256().to_string()), file.text().as_bytes());
        }
        let last = self.last();
        let previous =
            last.checked_sub(1).map(|_| Signed::parse(&fs::read(self.path(last)).expect("a revision")).expect("a revision").revision.digest());
        self.publish(last + 1, previous, &tree, by)
    }

    fn publish(&self, number: u64, previous: Option<Digest>, tree: &Tree, by: By) -> u64 {
        let line = |(path, file): (&TreePath, &File)| FileLine { sha256: file.sha256(), bytes: file.text().len() as u64, path: path.clone() };
        let draft = Draft {
            number,
            previous,
            made: jiff::Timestamp::now(),
            by: OPERATOR.parse().expect("an id"),
            reason: "a test".to_owned(),
            files: tree.iter().map(line).collect(),
        };
        let revision = Revision::new(draft).expect("a revision");
        let key = SigningKey::from_pem(if by == By::Operator { KEY } else { OTHER_KEY }).expect("a key");
        let signatures = vec![revision.sign(OPERATOR.parse().expect("an id"), &key)];
        self.put(&self.path(number), Signed { revision, signatures }.render().as_bytes());
        number
    }

    pub fn path(&self, number: u64) -> PathBuf {
        self.store.join(format!("revisions/{number:06}.revision"))
    }

    pub fn last(&self) -> u64 {
        let names = fs::read_dir(self.store.join("revisions")).expect("revisions");
        let number = |name: String| name.strip_suffix(".revision").and_then(|name| name.parse().ok());
        names.filter_map(|entry| number(entry.expect("an entry").file_name().to_string_lossy().into_owned())).max().unwrap_or(0)
    }

    fn put(&self, path: &Path, bytes: &[u8]) {
        let beside = path.with_extension("new");
        fs::write(&beside, bytes).expect("written");
        fs::rename(&beside, path).expect("in its place");
    }
}

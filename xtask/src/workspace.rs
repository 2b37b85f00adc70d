//! Where the workspace is, and which of its files are written by people.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold nothing the house rules speak about: built, fetched or recorded bytes.
const NOT_OURS: &[&str] = &[".git", ".bench", "target", "fixtures", "testdata"];

/// What counts as text written by people.
const EXTENSIONS: &[&str] = &["rs", "md", "toml", "sh", "json"];

/// The root of the workspace that this program was built from.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A text file of the workspace.
#[derive(Debug)]
pub struct TextFile {
    /// Path below the root, with `/` between its parts.
    pub path: String,
    /// What it says.
    pub text: String,
}

impl TextFile {
    /// The ending of its name, without the dot.
    pub fn extension(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, extension)| extension)
    }
}

/// Every text file below `root` that people write, sorted by path.
pub fn text_files(root: &Path) -> Result<Vec<TextFile>, String> {
    let mut paths = Vec::new();
    collect(root, &mut paths)?;
    paths.sort();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let bytes = fs::read(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
        let text = String::from_utf8(bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        let below = path.strip_prefix(root).unwrap_or(&path);
        files.push(TextFile { path: below.to_string_lossy().into_owned(), text });
    }
    Ok(files)
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |e| format!("list {}: {e}", dir.display());
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && !NOT_OURS.iter().any(|skip| name == *skip) {
            collect(&entry.path(), found)?;
        } else if kind.is_file() && is_ours(&entry.path()) {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn is_ours(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) || path.ends_with(".ci/run")
}

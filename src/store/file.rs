//! A file that outlives a crash.

use std::io;
use std::path::Path;

use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt as _;

/// Gives a file this text, and makes the directories that lead to it. Either the old text or the new one is there, whatever happens
/// meanwhile; once this has returned, the new one outlives a crash of the machine.
///
/// # Errors
/// If it cannot be written; the old text is still there then.
pub async fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).await?;
    let new = path.with_added_extension("new");
    let mut file = File::create(&new).await?;
    file.write_all(text).await?;
    file.sync_all().await?;
    fs::rename(&new, path).await?;
    File::open(dir).await?.sync_all().await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_new_text_takes_the_place_of_the_old_one_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/a.json");
        for text in ["a long text", "short"] {
            replace(&path, text.as_bytes()).await.unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_cannot_be_written_leaves_the_old_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        replace(&path, b"old").await.unwrap();
        std::fs::create_dir(dir.path().join("a.json.new")).unwrap();
        assert!(replace(&path, b"new").await.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    }
}

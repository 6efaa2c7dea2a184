//! Work on many files, several at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::files::SourceFile;

/// Files in work at once.
const HANDS: usize = 16;

/// Runs `work` once for each of `files`. Dropped, it stops at once.
///
/// # Errors
/// The first error of `work`; the rest is stopped then.
pub async fn over<F, W>(files: Arc<[SourceFile]>, work: W) -> Result<()>
where
    F: Future<Output = Result<()>> + Send,
    W: Fn(SourceFile) -> F + Clone + Send + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let mut hands: JoinSet<Result<()>> = JoinSet::new();
    for _ in 0..HANDS {
        let (files, next, work) = (files.clone(), next.clone(), work.clone());
        hands.spawn(async move {
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                work(file.clone()).await?;
            }
            Ok(())
        });
    }
    while let Some(ended) = hands.join_next().await {
        ended.context("a task ended early")??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: every file is worked on exactly once, and an error ends it.
    //! Method: count the keys that the work sees; then refuse one of them.

    use std::sync::Mutex;

    use anyhow::bail;

    use super::*;

    fn files(count: usize) -> Arc<[SourceFile]> {
        let file = |it: usize| SourceFile { key: it.to_string().into(), value: "".into() };
        (0..count).map(file).collect()
    }

    #[tokio::test]
    async fn each_file_is_worked_on_once() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = seen.clone();
        let work = move |file: SourceFile| {
            let note = note.clone();
            async move {
                note.lock().expect("nobody panics here").push(file.key);
                Ok(())
            }
        };
        over(files(100), work).await.expect("no error");
        let mut seen = seen.lock().expect("nobody panics here");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 100);
    }

    #[tokio::test]
    async fn an_error_is_passed_on() {
        let work = |file: SourceFile| async move {
            if file.key == "7" {
                bail!("not seven")
            }
            Ok(())
        };
        let error = over(files(100), work).await.expect_err("seven is refused");
        assert_eq!(error.to_string(), "not seven");
    }
}

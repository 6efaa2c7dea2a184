//! Reads every file back and compares it byte for byte.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use tandem::clock;
use tandem::protocol::time::Span;

use crate::data::Data;
use crate::files::SourceFile;
use crate::spread;

/// What the reads came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    pub reads: usize,
    /// The longest that one read waited for its answer.
    pub wait_max: Span,
}

/// Reads all `files` once.
///
/// # Errors
/// A read fails, or one byte differs.
pub async fn once(data: &Data, files: &Arc<[SourceFile]>) -> Result<Compared> {
    let sum = Arc::default();
    pass(data, files, &sum).await?;
    Ok(*sum.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Reads all `files` again and again while `unfinished` lasts.
///
/// # Errors
/// A read fails, one byte differs, or `unfinished` fails.
pub async fn during<T>(
    data: &Data,
    files: &Arc<[SourceFile]>,
    unfinished: impl Future<Output = Result<T>>,
) -> Result<(Compared, T)> {
    let sum = Arc::default();
    let reading = async {
        loop {
            if let Err(error) = pass(data, files, &sum).await {
                return error;
            }
        }
    };
    let finished = tokio::select! {
        error = reading => return Err(error),
        finished = unfinished => finished?,
    };
    let sum = *sum.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((sum, finished))
}

async fn pass(data: &Data, files: &Arc<[SourceFile]>, sum: &Arc<Mutex<Compared>>) -> Result<()> {
    let (data, sum) = (data.clone(), sum.clone());
    let read = move |file: SourceFile| {
        let (data, sum) = (data.clone(), sum.clone());
        async move {
            let begun = clock::now();
            let found = data.read(&file.key).await?;
            let waited = clock::now().since(begun);
            check(&file, found.as_deref())?;
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.reads += 1;
            sum.wait_max = sum.wait_max.max(waited);
            Ok(())
        }
    };
    spread::over(files.clone(), read).await
}

fn check(file: &SourceFile, found: Option<&[u8]>) -> Result<()> {
    let name = file.key.escape_ascii();
    ensure!(found.is_some(), "'{name}' is gone, although it was stored");
    ensure!(found == Some(&*file.value), "'{name}' differs from what was stored");
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: a lost or changed file is noticed.
    //! Method: compare one file with nothing, with another text, and with itself.

    use super::*;

    #[test]
    fn one_byte_makes_the_difference() {
        let file = SourceFile { key: "a".into(), value: "text".into() };
        let said = |found| check(&file, found).map_err(|it| it.to_string());
        assert_eq!(said(None), Err("'a' is gone, although it was stored".to_owned()));
        assert_eq!(said(Some(b"test")), Err("'a' differs from what was stored".to_owned()));
        assert_eq!(said(Some(b"text")), Ok(()));
    }
}

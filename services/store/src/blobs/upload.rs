//! One blob on its way: in parts, a few at once. May not: leave anything of a blob that is not finished.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayloadMut, Result, WriteMultipart};

/// Bytes of one part; the least that S3 takes.
const PART: usize = 5 << 20;
/// Parts of one blob that are sent at once. One more is being filled: that is all of a blob that is in memory.
const PARTS_MOST: usize = 2;

/// A blob that is being written. What was sent of it goes when it is discarded, or dropped by whoever stops waiting.
pub(super) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// All of it, as long as that is no more than a part.
    small: PutPayloadMut,
    parts: Option<WriteMultipart>,
}

impl Upload {
    pub(super) fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self {
            store,
            path,
            small: PutPayloadMut::new(),
            parts: None,
        }
    }

    /// Copies the bytes, so that a sender of tiny chunks costs no more than what they hold.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        // Pieces that fill one part at most, so that each waits for its turn.
        for piece in bytes.chunks(PART) {
            if self.parts.is_none() {
                if self.small.content_length() + piece.len() <= PART {
                    self.small.extend_from_slice(piece);
                    continue;
                }
                let upload = self.store.put_multipart(&self.path).await?;
                let mut parts = WriteMultipart::new_with_chunk_size(upload, PART);
                for bytes in std::mem::take(&mut self.small).freeze() {
                    parts.put(bytes);
                }
                self.parts = Some(parts);
            }
            if let Some(parts) = &mut self.parts {
                parts.wait_for_capacity(PARTS_MOST).await?;
                parts.write(piece);
            }
        }
        Ok(())
    }

    /// Makes it visible, as a whole; leaves nothing where that fails.
    pub(super) async fn finish(mut self) -> Result<()> {
        let Some(parts) = self.parts.take() else {
            let whole = std::mem::take(&mut self.small);
            return self.store.put(&self.path, whole.into()).await.map(drop);
        };
        // A task of its own goes on to the end, also where nobody waits for it any more.
        tokio::spawn(parts.finish()).await?.map(drop)
    }

    /// Takes back what was sent.
    pub(super) async fn discard(mut self) {
        if let Some(parts) = self.parts.take() {
            drop(tokio::spawn(take_back(parts)).await);
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(take_back(parts));
        }
    }
}

async fn take_back(mut parts: WriteMultipart) {
    // A part that arrives after the end of its upload would stay.
    drop(parts.wait_for_capacity(0).await);
    if let Err(error) = parts.abort().await {
        tracing::warn!("what was sent of a blob could not be taken back: {error}");
    }
}

"""PDF files: the text of their pages. The only importer of pypdf."""

import io
import logging

from gemb.checks import needs
from gemb.datasets.documents.decoding import without_surrogates
from gemb.datasets.documents.document import Block, Document, Unreadable
from gemb.datasets.documents.plain import paragraphs


def read_pdf(data: bytes) -> Document:
    """The pages of a PDF file; a page that is only a picture has no text.

    Offsets count the characters of the text that is extracted, all pages joined.

    Raises:
        Unreadable: "encrypted PDF", "broken PDF" or "no text in PDF".
        MissingExtra: pypdf is not installed.
    """
    with needs("reading PDF", extra="documents"):
        import pypdf
        from pypdf.errors import DependencyError, FileNotDecryptedError
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # its notes are of no use to a reader
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("encrypted PDF")
        texts = [_clean(page.extract_text()) for page in reader.pages]
        title = _title(reader)
    except Unreadable:
        raise
    except (DependencyError, FileNotDecryptedError) as error:  # encrypted by AES
        raise Unreadable("encrypted PDF") from error
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # a broken file shows itself by errors of any type
        raise Unreadable("broken PDF") from error
    finally:
        logger.setLevel(level)
    if not any(text.strip() for text in texts):
        raise Unreadable("no text in PDF")
    return _joined(texts, title)


def _joined(texts: list[str], title: str) -> Document:
    pages, length = [], 0
    for text in texts:
        pages.append(length)
        length += len(text) + 2
    whole = "\n\n".join(texts)
    return Document(whole, [Block(*p) for p in paragraphs(whole, 0, len(whole))], title, (), pages)


def _title(reader) -> str:
    title = reader.metadata.title if reader.metadata else None
    return " ".join(_clean(title).split()) if isinstance(title, str) else ""


def _clean(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", " ")
    return without_surrogates(text)

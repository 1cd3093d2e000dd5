"""Why a file, or a piece of one, is not taken."""

from app.errors import Conflict, Refused, TooLarge


class DatasetHasContent(Conflict):
    """It has a file, or conversations, already; make another dataset for another file."""

    code = "dataset_has_content"


class WrongOffset(Conflict):
    """The piece does not begin where the file ends so far; `Upload-Offset` says where that is."""

    code = "wrong_offset"

    def __init__(self, offset: int):
        message = f"the file has {offset} bytes so far; go on with Content-Range: bytes {offset}-…"
        super().__init__(message, headers={"Upload-Offset": str(offset)})


class FileTooLarge(TooLarge):
    """The file is larger than a dataset's may be; make several datasets of it, or pack it with gzip."""

    code = "file_too_large"


class UploadStalled(Refused):
    """Nothing, or next to nothing, arrived for a minute. What had arrived is kept: go on from `Upload-Offset`."""

    code = "upload_stalled"
    status = 408

    def __init__(self, offset: int):
        message = f"too little arrived for too long; the first {offset} bytes are kept, go on from there"
        super().__init__(message, headers={"Upload-Offset": str(offset)})


class NothingToTake(Conflict):
    """No file of this dataset has been checked and not been taken."""

    code = "nothing_to_take"

"""Raw values to the arrays that an encoder reads, one file per modality."""

"""Operations on whole journals, one public operation per module."""

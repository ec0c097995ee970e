"""Raw values to the arrays that an encoder reads, one file per modality.

A processor is saved with its model; inference, training and teachers all go through it.
"""

from gemb.processors.image import ImageProcessor
from gemb.processors.processor import Example, Processor
from gemb.processors.text import TextProcessor

__all__ = ["Example", "ImageProcessor", "Processor", "TextProcessor"]

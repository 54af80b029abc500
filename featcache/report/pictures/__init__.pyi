from .figure import save_evaluation_png as save_evaluation_png
from .sheet import save_sheet as save_sheet
from .strip import save_strip as save_strip

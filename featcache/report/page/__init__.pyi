from .build import build_page as build_page
from .folds import save_folds_html as save_folds_html
from .page import save_html as save_html

from .build import build_page as build_page
from .page import save_html as save_html

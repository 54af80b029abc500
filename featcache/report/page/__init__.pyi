from .about import page_of as page_of
from .page import save_html as save_html

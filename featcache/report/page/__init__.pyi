from .build import build_page as build_page
from .few_shots import save_few_shots_html as save_few_shots_html
from .folds import save_folds_html as save_folds_html
from .label_issues import save_label_issues_html as save_label_issues_html
from .page import save_html as save_html
from .target_folds import save_target_folds_html as save_target_folds_html
from .target_issues import save_target_issues_html as save_target_issues_html
from .targets import save_targets_html as save_targets_html

import pytest
from tests.browser.test_looks import flow_pages
pytestmark = [pytest.mark.cluster]
def test_zz(open_as, world):
    for size in ("desktop", "phone"):
        page = open_as(size=size, scheme="light" if size == "desktop" else "dark")
        for name, path in flow_pages(world).items():
            page.goto(path)
            page.wait_for_timeout(150)
            page.screenshot(path=f"/tmp/zz-{size}-{name.replace(' ', '_').replace(',', '')}.png", full_page=size=="desktop")

from django.contrib.admin import AdminSite


class ShopAdminSite(AdminSite):
    site_header = "The shop"
    site_title = "Shop"

from django.contrib.admin import apps


class ShopAdminConfig(apps.AdminConfig):
    default_site = "shop.admin_site.ShopAdminSite"

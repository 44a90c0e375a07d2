from django.contrib import admin
from django.urls import include, path

from shop import views

urlpatterns = [
    path("orders/<str:reference>/", views.place_order),
    path("stock/", views.Stock.as_view()),
    path("stock/<str:reference>/count/", views.count),
    path("back-office/", admin.site.urls),
    path("ops/", include("statemanager.host_urls")),
]

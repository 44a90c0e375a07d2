from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django_q.tasks import async_task
from rest_framework.response import Response
from rest_framework.views import APIView

from shop.models import Order
from statemanager import api


def place_order(request: HttpRequest, reference: str) -> HttpResponse:
    """Store an order and start its run; both are rolled back with `?cancel=1`."""
    with transaction.atomic():
        order = Order.objects.create(reference=reference)
        run = api.start("orders", {"reference": reference}, run_id=f"order-{reference}")
        order.run_id = run.run_id
        order.save()
        if request.GET.get("cancel"):
            transaction.set_rollback(True)
    return JsonResponse({"run": run.run_id})


class Stock(APIView):
    """The shop's own API, as its settings say."""

    def get(self, request: HttpRequest) -> Response:
        return Response({"stock": Order.objects.count()})


def shop_errors(error: Exception, context: object) -> Response:
    return Response({"the shop says": str(error)}, status=418)


def count(request: HttpRequest, reference: str) -> HttpResponse:
    async_task("shop.views.count_stock", reference)
    return HttpResponse()


def count_stock(reference: str) -> None:
    """A task of the shop's own cluster."""
    Order.objects.create(reference=f"counted {reference}")

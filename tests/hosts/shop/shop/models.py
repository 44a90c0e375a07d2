from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models


class CustomerManager(BaseUserManager):
    def create_superuser(self, email, password=None):
        customer = self.model(email=email, is_staff=True, is_superuser=True)
        customer.set_password(password)
        customer.save()
        return customer


class Customer(AbstractBaseUser, PermissionsMixin):
    """An account that has an address instead of a username."""

    email = models.EmailField(unique=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    objects = CustomerManager()
    USERNAME_FIELD = "email"


class Order(models.Model):
    reference = models.CharField(max_length=40)
    run_id = models.CharField(max_length=200, blank=True)

    def __str__(self):
        return self.reference
